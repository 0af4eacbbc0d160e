"""Heads that are computed from embedded features, and standardization by the target."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from hf_wbc.adaptation import load_method
from hf_wbc.adaptation.closed_form import (
    LinearHead,
    class_means,
    combat_statistics,
    fold_standardization,
)
from hf_wbc.adaptation.method import TrainingInfo
from hf_wbc.adaptation.methods.lda import lda_head
from hf_wbc.adaptation.methods.prototypes import prototype_head
from hf_wbc.models import Classifier, Output
from hf_wbc.taxonomy import NUM_CLASSES

DIM, SCALE = 16, 3.0


class HeadOnly(torch.nn.Module):
    """A `Classifier` stand-in for features without a bottleneck."""

    bottleneck = None
    mask_absent_classes = Classifier.mask_absent_classes

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(DIM, NUM_CLASSES)

    def forward(self, inputs: torch.Tensor) -> Output:
        return Output(inputs, self.head(inputs))


@pytest.fixture(scope="module")
def cells() -> tuple[torch.Tensor, torch.Tensor]:
    """Features (400, 16) of four classes, float64, with labels 0..3."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    centers = rng.normal(size=(4, DIM)) * SCALE
    mixing = rng.normal(size=(DIM, DIM)) / 2
    return (
        torch.from_numpy(centers[labels] + rng.normal(size=(400, DIM)) @ mixing),
        torch.from_numpy(labels),
    )


def logits(head: LinearHead, features: torch.Tensor) -> torch.Tensor:
    return features @ head.weight.T + head.bias


def test_lda_matches_bayes_rule_with_shrunken_covariance(cells) -> None:
    features, labels = cells
    means = class_means(features, labels)
    residuals = (features - means[labels]).numpy()
    inverse = np.linalg.inv(LedoitWolf(assume_centered=True).fit(residuals).covariance_)
    offsets = features[:, None].numpy() - means.numpy()
    distances = np.einsum("ncd,de,nce->nc", offsets, inverse, offsets)
    log_p = torch.log_softmax(logits(lda_head(features, labels), features), 1)
    expected = torch.log_softmax(torch.from_numpy(-0.5 * distances), 1)
    torch.testing.assert_close(log_p, expected)


def test_prototype_head_predicts_nearest_mean(cells) -> None:
    features, labels = cells
    means = class_means(features, labels)
    nearest = torch.cdist(features, means).argmin(1)
    assert torch.equal(logits(prototype_head(features, labels), features).argmax(1), nearest)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], means[None], dim=2)
    found = logits(prototype_head(features, labels, "cosine"), features).argmax(1)
    assert torch.equal(found, cosine.argmax(1))


def test_standardization_folds_into_head(cells) -> None:
    features, labels = cells
    mean, std = features.mean(0), features.std(0)
    head = lda_head((features - mean) / std, labels)
    folded = fold_standardization(head, mean, std)
    torch.testing.assert_close(logits(folded, features), logits(head, (features - mean) / std))


def test_combat_trusts_large_target_and_shrinks_small_one() -> None:
    rng = torch.Generator().manual_seed(0)
    source = torch.zeros(50, dtype=torch.float64), torch.ones(50, dtype=torch.float64)
    shift = torch.randn(50, generator=rng, dtype=torch.float64)
    many = shift + 2 * torch.randn(20000, 50, generator=rng, dtype=torch.float64)
    mean, std = combat_statistics(source, many)
    torch.testing.assert_close(mean, many.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(std, many.std(0), rtol=0.01, atol=0)
    few = many[:4]
    mean, std = combat_statistics(source, few)
    assert mean.std() < few.mean(0).std() and std.std() < 0.5 * few.std(0).std()


def computed(name: str, options: dict[str, str], cells, target: torch.Tensor | None) -> HeadOnly:
    classifier = HeadOnly()
    features, labels = cells
    method_type = load_method(name)
    counts = torch.bincount(labels, minlength=NUM_CLASSES)[None]
    method = method_type(classifier, method_type.parse(options))
    classifier.mask_absent_classes(counts[0] > 0)
    method.setup(
        TrainingInfo(
            num_steps=1, source_domains=("a",), class_counts=counts, num_target=0, is_features=True
        )
    )
    method.solve(features.float(), labels, target)
    return method.classifier


@pytest.mark.parametrize("name", ["lda", "prototypes"])
def test_computed_head_classifies_the_source(name: str, cells) -> None:
    features, labels = cells
    found = computed(name, {}, cells, None).head(features.float())
    assert (found.argmax(1) != labels).float().mean() < 0.05
    assert (found[:, 4:].amax(1) < found[:, :4].amin(1)).all()


@pytest.mark.parametrize("head", ["lda", "prototypes"])
@pytest.mark.parametrize("mode", ["full", "half", "combat"])
def test_target_standardization_undoes_scanner_shift(mode: str, head: str, cells) -> None:
    features, labels = cells
    moved = (features * 1.7 + 4.0).float()

    def errors(classifier: HeadOnly) -> float:
        return float((classifier.head(moved).argmax(1) != labels).float().mean())

    plain = errors(computed(head, {}, cells, moved))
    adapted = errors(computed(f"{head}_standardized", {"standardize": mode}, cells, moved))
    assert adapted < plain
    if mode != "half":
        assert adapted < 0.05
