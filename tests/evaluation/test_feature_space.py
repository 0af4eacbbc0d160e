"""PCA against scikit-learn, and nearest cells against a manual result."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from hf_wbc.evaluation.feature_space import nearest_neighbors, own_distances, principal_plane


def test_plane_matches_sklearn_pca() -> None:
    known, new = np.random.default_rng(0).normal(size=(2, 60, 7)) * np.arange(1, 8)
    plane, reference = principal_plane(known), PCA(2).fit(known)
    points, expected = plane.project(new), reference.transform(new)
    signs = np.sign((points * expected).sum(0))
    np.testing.assert_allclose(points, expected * signs, rtol=1e-4, atol=1e-4)
    assert plane.share == pytest.approx(reference.explained_variance_ratio_.sum())


def test_too_few_cells_raise_for_plane() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 7\)"):
        principal_plane(np.zeros((2, 7)))


def test_nearest_cell_is_by_angle_and_never_itself() -> None:
    known = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found, distances = nearest_neighbors(known, np.array([[5.0, 0.1], [3.0, 3.0]]))
    assert found.tolist() == [0, 2]
    np.testing.assert_allclose(distances, [1 - 5 / np.hypot(5, 0.1), 0], atol=1e-12)
    np.testing.assert_allclose(own_distances(known), [1 - 0.5**0.5] * 3)
