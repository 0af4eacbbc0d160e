"""Centroid pseudo-labels (Liang et al. 2020): nearest by cosine, in two rounds."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax

from hf_wbc.adaptation.methods.shot import pseudo_labels


def reference_labels(features: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Assign the nearest weighted mean by cosine, then the nearest mean of the labels found."""
    candidates = np.unique(p.argmax(1))
    centroids = (p.T @ features / p.sum(0)[:, None])[candidates]
    labels = candidates[cdist(features, centroids, "cosine").argmin(1)]
    candidates = np.unique(labels)
    centroids = np.stack([features[labels == k].mean(0) for k in candidates])
    return candidates[cdist(features, centroids, "cosine").argmin(1)]


@pytest.mark.parametrize("seed", range(5))
def test_pseudo_labels_match_nearest_centroids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 6, 40)
    features = 2 * rng.normal(size=(6, 4))[true] + rng.normal(size=(40, 4))
    p = softmax(2 * rng.normal(size=(40, 8)) + 3 * np.eye(8)[true], axis=1)
    found = pseudo_labels(torch.from_numpy(features), torch.from_numpy(p)).numpy()
    np.testing.assert_array_equal(found, reference_labels(features, p))


def test_unseen_rows_change_no_label() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(20, 4)))
    p = torch.from_numpy(softmax(3 * rng.normal(size=(20, 5)), axis=1))
    padded = torch.cat([features, 9 + torch.zeros(7, 4)]), torch.cat([p, torch.zeros(7, 5)])
    assert torch.equal(pseudo_labels(*padded)[:20], pseudo_labels(features, p))


def test_class_that_is_never_most_likely_gets_no_label() -> None:
    p = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.0, 0.4], [0.0, 0.4, 0.6]])
    assert 1 not in pseudo_labels(torch.randn(3, 2), p)


def test_wrong_prediction_within_its_cluster_is_corrected() -> None:
    features = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]])
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    assert pseudo_labels(features, p).tolist() == [0, 0, 0, 1, 1]
