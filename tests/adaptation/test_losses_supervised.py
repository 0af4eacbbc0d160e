"""The supervised loss: cross-entropy, logit adjustment (Menon 2021), lineage (Bertinetto 2020)."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from hf_wbc.adaptation.losses import SupervisedLoss, soft_labels
from hf_wbc.taxonomy import NUM_CLASSES, Relation, class_id, relation

COUNTS = np.arange(2 * NUM_CLASSES).reshape(2, NUM_CLASSES)
EVERY = torch.ones(NUM_CLASSES, dtype=torch.bool)


def reference(
    logits: np.ndarray, labels: np.ndarray, domains: np.ndarray, tau: float, lineage: float
) -> float:
    priors = (COUNTS + 1) / (COUNTS + 1).sum(1, keepdims=True)
    adjusted = logits + tau * np.log(priors[domains])
    log_p = adjusted - logsumexp(adjusted, axis=1, keepdims=True)
    if lineage:
        far = [[float(relation(int(y), k)) for k in range(NUM_CLASSES)] for y in labels]
        targets = softmax(-np.array(far) / lineage, axis=1)
    else:
        targets = np.eye(NUM_CLASSES)[labels]
    return float(-(targets * log_p).sum(1).mean())


@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.parametrize("lineage", [0.0, 0.3])
def test_loss_and_gradient_match_papers(tau: float, lineage: float, assert_loss_is) -> None:
    labels, domains = np.array([0, 7, 8, 9, 3]), np.array([0, 1, 1, 0, 1])
    loss = SupervisedLoss(torch.from_numpy(COUNTS), tau, lineage)
    assert_loss_is(
        lambda z: loss(z, torch.from_numpy(labels), torch.from_numpy(domains)).mean(),
        lambda z: reference(z, labels, domains, tau, lineage),
        np.random.default_rng(0).normal(size=(5, NUM_CLASSES)),
        rel=1e-5,
        step=1e-2,
    )


def test_adjacent_maturation_costs_less_than_another_lineage() -> None:
    loss = SupervisedLoss(torch.ones(1, NUM_CLASSES), 0.0, 0.5)
    band = torch.tensor([class_id("neutrophil_banded")])
    costs = {}
    for name in ("neutrophil_segmented", "eosinophil", "monocyte"):
        logits = torch.zeros(1, NUM_CLASSES)
        logits[0, class_id(name)] = 5.0
        costs[name] = loss(logits, band, torch.tensor([0])).item()
    assert costs["neutrophil_segmented"] < costs["eosinophil"] < costs["monocyte"]


def test_soft_labels_become_one_hot() -> None:
    assert torch.equal(soft_labels(EVERY[:3], 0.0), torch.eye(3))
    torch.testing.assert_close(soft_labels(EVERY, 1e-3), torch.eye(NUM_CLASSES))


def test_soft_labels_rank_like_the_taxonomy() -> None:
    rows = soft_labels(EVERY, 0.5)
    ids = range(NUM_CLASSES)
    by_kind = {
        kind: {round(float(rows[i, j] / rows[i, i]), 5) for i in ids for j in ids
               if relation(i, j) == kind}
        for kind in Relation
    }  # fmt: skip
    assert by_kind[Relation.ONE_STEP] == {round(float(np.exp(-2)), 5)}
    assert by_kind[Relation.CROSS_LINEAGE] == {round(float(np.exp(-6)), 5)}


def test_classes_missing_from_all_sources_get_no_mass() -> None:
    present = EVERY.clone()
    present[[3, 7]] = False
    rows, of_all = soft_labels(present, 0.5), soft_labels(EVERY, 0.5)
    assert not rows[:, ~present].any()
    torch.testing.assert_close(rows.sum(1), torch.ones(NUM_CLASSES))
    kept = of_all[present][:, present]
    torch.testing.assert_close(rows[present][:, present], kept / kept.sum(1, keepdim=True))


def test_present_classes_are_those_of_any_source() -> None:
    counts = torch.from_numpy(COUNTS).clone()
    counts[:, 5] = 0
    loss = SupervisedLoss(counts)
    logits = torch.arange(NUM_CLASSES)[None].float()
    assert loss.num_present == NUM_CLASSES - 1
    assert loss.select_present(logits).tolist() == [[c for c in range(NUM_CLASSES) if c != 5]]


def test_class_missing_from_a_source_keeps_loss_finite() -> None:
    counts = torch.zeros(1, NUM_CLASSES)
    counts[0, 0] = 100_000
    loss = SupervisedLoss(counts, 1.0, 0.0)
    assert torch.isfinite(
        loss(torch.zeros(1, NUM_CLASSES), torch.tensor([1]), torch.tensor([0]))
    ).all()


def test_label_smoothing_covers_only_present_classes() -> None:
    counts = torch.from_numpy(COUNTS.copy())
    counts[:, 3] = 0
    loss = SupervisedLoss(counts, label_smoothing=0.1)
    present = loss.present_classes
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(5, COUNTS.shape[1]))).float()
    absent = torch.ones(COUNTS.shape[1], dtype=torch.bool)
    absent[present] = False
    logits[:, absent] = torch.finfo(torch.float32).min / 2
    labels = torch.arange(5) % len(present)
    expected = torch.nn.functional.cross_entropy(
        logits[:, present], labels, reduction="none", label_smoothing=0.1
    )
    domains = torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(loss(logits, present[labels], domains), expected)


def test_classes_weigh_by_effective_numbers() -> None:
    counts, beta = torch.zeros(1, NUM_CLASSES, dtype=torch.long), 0.99
    counts[0, 2], counts[0, 5], counts[0, 8] = 1, 10, 1000
    labels, logits = torch.tensor([2, 5, 8, 8]), torch.randn(4, NUM_CLASSES)
    plain, weighted = (
        SupervisedLoss(counts, effective_numbers=each)(logits, labels, torch.zeros(4).long())
        for each in (0.0, beta)
    )
    effective = [(1 - beta**n) / (1 - beta) for n in (1, 10, 1000)]
    expected = np.array([1 / number for number in effective])
    expected = (expected / expected.mean())[[0, 1, 2, 2]]
    torch.testing.assert_close(weighted / plain, torch.from_numpy(expected).float())
