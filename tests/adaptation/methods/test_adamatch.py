"""AdaMatch (Berthelot et al. 2021): aligned pseudo-labels above a relative threshold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.adamatch import adamatch_loss, align_distribution, cosine_warm_up
from hf_wbc.data.batch import Batch

SHAPES = [(1, 1, 11), (4, 6, 3), (16, 9, 11)]
"""Numbers of target samples, source samples, and classes."""


def align(weak: np.ndarray, source: np.ndarray) -> np.ndarray:
    p_t, p_s = softmax(weak, axis=1), softmax(source, axis=1)
    scaled = p_t * p_s.mean(0) / p_t.mean(0)
    return scaled / scaled.sum(1, keepdims=True)


def reference(strong: np.ndarray, weak: np.ndarray, source: np.ndarray, threshold: float) -> float:
    labels = align(weak, source)
    limit = threshold * softmax(source, axis=1).max(1).mean()
    log_p = strong - logsumexp(strong, axis=1, keepdims=True)
    total = 0.0
    for row, label in zip(log_p, labels, strict=True):
        if label.max() >= limit:
            total -= row[label.argmax()]
    return float(total / len(labels))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9])
def test_loss_matches_paper_with_gradient_only_in_strong_view(
    shape: tuple[int, int, int], threshold: float, assert_loss_is: Callable[..., None]
) -> None:
    num_t, num_s, num_classes = shape
    rng = np.random.default_rng(1)
    strong, weak = rng.normal(size=(2, num_t, num_classes), scale=2)
    source = rng.normal(size=(num_s, num_classes), scale=2)
    assert_loss_is(
        lambda *z: adamatch_loss(*z, threshold)[0],
        lambda *z: reference(*z, threshold),
        strong,
        weak,
        source,
    )


def test_threshold_separates_samples() -> None:
    z = torch.randn(40, 11, generator=torch.Generator().manual_seed(0)).double() * 2
    found = [adamatch_loss(z, z, z[:20], threshold)[1].item() for threshold in (0.0, 0.9, 1.0)]
    assert found[0] == 1 and 0 < found[2] < found[1] < 1


def test_alignment_of_equal_proportions_changes_nothing() -> None:
    z = torch.randn(6, 11)
    torch.testing.assert_close(align_distribution(z, z.flip(0)), z.softmax(1))


def test_alignment_gives_uniform_predictions_source_proportions() -> None:
    z_s = torch.randn(9, 11)
    found = align_distribution(torch.zeros(4, 11), z_s)
    torch.testing.assert_close(found, z_s.softmax(1).mean(0).expand(4, -1))


def test_alignment_relabels_target_cells_under_label_shift() -> None:
    """Nine of ten target cells are of class 0, the source is balanced: one cell is relabeled."""
    z_t = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    z_s = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    assert (z_t.argmax(1) == 1).sum() == 1
    assert align_distribution(z_t, z_s).mean(0)[1] > z_t.softmax(1).mean(0)[1]


def test_absent_class_stays_finite() -> None:
    z = 1e4 * torch.eye(11)
    z_strong = z[:3].clone().requires_grad_()
    loss, _ = adamatch_loss(z_strong, z[:3], z[3:6], 0.9)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z_strong.grad).all()
    assert torch.isfinite(align_distribution(z[:3], z[3:6])).all()


def test_weight_warms_up_over_half_of_training() -> None:
    found = [cosine_warm_up(progress) for progress in (0.0, 0.25, 0.5, 0.8)]
    assert found == pytest.approx([0, 0.5, 1, 1])


def test_both_source_views_are_supervised_and_target_moves_classifier(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch(progress=0.25)
    source, target = batch.source, batch.target
    method = make_method("adamatch", small, weight=3.0, threshold=0.5)
    terms, early = method(batch), method(replace(batch, progress=0.0))
    inputs = torch.cat([source.inputs, source.strong, target.inputs, target.strong])
    s_weak, s_strong, t_weak, t_strong = small(inputs).logits.split(6)
    cross_entropy = torch.nn.functional.cross_entropy
    both = [cross_entropy(z, source.labels) for z in (s_weak, s_strong)]
    torch.testing.assert_close(terms["supervised"], sum(both).detach() / 2)
    expected = reference(*(z.detach().numpy() for z in (t_strong, t_weak, s_weak)), 0.5)
    assert expected > 0
    assert (terms["loss"] - terms["supervised"]).item() == pytest.approx(1.5 * expected, rel=1e-4)
    assert early["loss"] == early["supervised"]
    gradients = [torch.autograd.grad(t["loss"], small.head.weight)[0] for t in (terms, early)]
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("options", [{"weight": -1}, {"threshold": 1.1}])
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("adamatch", None, **options)
