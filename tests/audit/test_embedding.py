"""The map preserves neighborhoods, and its numbers match their definitions."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hf_wbc.audit import embedding
from hf_wbc.audit.embedding import _without_self, balanced_sample, domain_mixing, embed


@pytest.mark.slow  # compiling UMAP takes most of it
@pytest.mark.ci
def test_clusters_stay_apart_and_map_is_deterministic():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 30)
    features = (rng.normal(size=(60, 20)) + 30 * kinds[:, None]).astype(np.float32)
    one, other = embed(features, seed=1), embed(features, seed=1)
    assert np.array_equal(one.xy, other.xy) and one.xy.shape == (60, 2)
    middles = np.stack([one.xy[kinds == kind].mean(axis=0) for kind in (0, 1)])
    nearest = np.linalg.norm(one.xy[:, None] - middles, axis=2).argmin(axis=1)
    assert np.array_equal(nearest, kinds)
    assert (kinds[one.neighbors] == kinds[:, None]).all()
    assert domain_mixing(one.neighbors, kinds).alike == 1


def test_too_few_cells_have_no_map():
    assert embed(np.eye(4, dtype=np.float32)) is None


def test_identical_cells_have_no_map():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embed(np.full((20, 8), 0.5, np.float32)) is None


@pytest.mark.parametrize("num", [5, 8, 16, 17, 30])
def test_umap_gets_fewer_neighbors_than_cells(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it warns and drops some itself."""
    features = np.random.default_rng(0).normal(size=(num, 6)).astype(np.float32)

    def flat(points, neighbors, distances, seed):
        assert neighbors.shape == distances.shape == (num, min(16, num - 1))
        return points[:, :2]

    monkeypatch.setattr(embedding, "_umap", flat)
    assert embed(features).neighbors.shape == (num, min(15, num - 1))


def test_libraries_of_the_map_read_nothing_from_the_current_folder(tmp_path, monkeypatch):
    used = []

    class Umap:
        def __init__(self, **_):
            used.append(Path.cwd())

        def fit_transform(self, points):
            used.append(Path.cwd())
            return points[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    monkeypatch.chdir(tmp_path)
    embed(np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32))
    assert len(used) == 2 and tmp_path not in used and Path.cwd() == tmp_path


def test_cell_is_not_its_own_neighbor_among_copies():
    found = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 3], [3, 2, 0]])
    assert _without_self(found).tolist() == [[1, 2], [0, 2], [0, 1], [2, 0]]


def test_mixing_counts_same_domain_neighbors_and_ignores_unknown():
    kinds = np.array([0, 0, 1, -1])
    neighbors = np.array([[1, 2], [0, 3], [0, 3], [0, 1]])
    found = domain_mixing(neighbors, kinds)
    assert found.alike == pytest.approx(2 / 4)
    assert found.by_chance == pytest.approx((2 / 3) ** 2 + (1 / 3) ** 2)
    assert domain_mixing(neighbors, np.zeros(4, int)) is None
    assert domain_mixing(neighbors, np.full(4, -1)) is None


def test_balanced_sample_keeps_small_domains_and_is_deterministic() -> None:
    domains = np.array([0] * 900 + [1] * 30 + [2] * 500)
    rows = balanced_sample(domains, 300)
    assert np.bincount(domains[rows]).tolist() == [135, 30, 135]
    assert (balanced_sample(domains, 300) == rows).all()
    assert balanced_sample(domains, 5000).tolist() == list(range(1430))
