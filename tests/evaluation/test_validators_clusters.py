"""k-means and adjusted mutual information match scikit-learn; collapsed features score 0."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from hf_wbc.evaluation import validators as module
from hf_wbc.evaluation.validators import (
    adjusted_mutual_information,
    class_ami,
    evenly_spaced,
    k_means,
)


def blobs(num=220, d=6, k=11, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, k, num)
    return 3 * rng.normal(size=(k, d))[classes] + spread * rng.normal(size=(num, d)), classes


@given(
    labels=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=60),
)
def test_adjusted_mutual_information_matches_sklearn(labels):
    a, b = np.array(labels).T
    ours = adjusted_mutual_information(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours == pytest.approx(0)
    elif len(set(a)) < len(a) or len(set(b)) < len(b):
        assert ours == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-7)


def test_all_distinct_labels_have_zero_ami():
    assert adjusted_mutual_information(np.arange(5), np.arange(5)) == 0


def test_k_means_is_as_tight_as_sklearn():
    features, _ = blobs(spread=1.0)
    labels = k_means(features.astype(np.float32), 11)
    inertia = sum(
        ((features[labels == k] - features[labels == k].mean(0)) ** 2).sum() for k in set(labels)
    )
    theirs = KMeans(11, n_init=10, random_state=0).fit(features).inertia_
    assert inertia < 1.15 * theirs


def test_k_means_converges_to_fixed_point():
    features, _ = blobs()
    labels = k_means(features, 11)
    centers = np.stack([features[labels == k].mean(0) for k in range(labels.max() + 1)])
    nearest = ((features[:, None] - centers) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).all()


def test_k_means_keeps_singleton_clusters():
    features = np.array([[0.0], [0.1], [4.0], [10.0]])
    assert len(set(k_means(features, 3)[1:])) == 3


def test_predictions_matching_clusters_score_highest():
    features, classes = blobs()
    noisy = np.where(np.arange(220) % 3, classes, 0)
    assert class_ami(features, classes) > 0.95
    assert class_ami(features, classes) > class_ami(features, noisy) > 0.3


def test_random_predictions_score_about_zero():
    features, _ = blobs()
    assert abs(class_ami(features, np.random.default_rng(5).integers(0, 11, 220))) < 0.05


def test_predictions_of_one_class_score_zero():
    features, _ = blobs()
    assert class_ami(features, np.zeros(220, int)) == 0


def test_collapsed_features_and_predictions_score_zero():
    assert class_ami(np.ones((50, 3)), np.zeros(50, int)) == 0


@pytest.mark.parametrize("num", [1, 2, 5])
def test_few_images_give_finite_score(num):
    features, classes = blobs()
    assert math.isfinite(class_ami(features[:num], classes[:num]))


def test_class_ami_is_deterministic_and_uses_evenly_spaced_images(monkeypatch):
    features, classes = blobs()
    assert class_ami(features, classes) == class_ami(features, classes)
    monkeypatch.setattr(module, "MAX_CLUSTERED_IMAGES", 50)
    rows = evenly_spaced(220, 50)
    assert class_ami(features, classes) == class_ami(features[rows], classes[rows])
