"""FixMatch (Sohn et al. 2020): confident predictions on weak views label the strong views."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from hf_wbc.adaptation import Method
from hf_wbc.data.batch import Batch


def reference(strong: np.ndarray, weak: np.ndarray, threshold: float) -> float:
    """Average 1(max q >= tau) H(argmax q, p) over all samples."""
    q = softmax(weak, axis=1)
    log_p = strong - logsumexp(strong, axis=1, keepdims=True)
    sure = q.max(1) >= threshold
    return float(-(sure * log_p[np.arange(len(q)), q.argmax(1)]).mean())


def logits(classifier: Any, *inputs: torch.Tensor) -> list[np.ndarray]:
    """Return the logits of each of the inputs, which share one pass."""
    found = classifier(torch.cat(inputs)).logits.detach().numpy()
    return np.split(found, np.cumsum([len(each) for each in inputs])[:-1])


def test_student_processes_all_three_views_in_one_pass(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch()
    method = make_method("fixmatch", small, weight=2.0, threshold=0.2)
    terms = method(batch)
    assert small.norm.num_batches_tracked == 1
    source, target = batch.source, batch.target
    _, strong, weak = logits(small, source.inputs, target.strong, target.inputs)
    assert 0 < terms["sure"] < 1
    expected = reference(strong, weak, 0.2)
    assert terms["pseudo"].item() == pytest.approx(expected, rel=1e-4)
    assert (terms["loss"] - terms["supervised"]).item() == pytest.approx(2 * expected, rel=1e-4)


def test_teacher_labels_weak_view_and_updates_after_step(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch()
    other = replace(batch.target, strong=-2 * batch.target.inputs)  # with different labels
    batch = replace(batch, target=other)
    method = make_method("fixmatch", small, threshold=0.0, teacher_decay=0.9)
    with torch.no_grad():
        method.teacher.classifier.head.weight.neg_()  # so that its labels differ from the student's
    before = method.teacher.classifier.head.weight.clone()
    terms = method(batch)
    _, strong = logits(small, batch.source.inputs, batch.target.strong)
    (weak,) = logits(method.teacher.classifier, batch.target.inputs)
    assert terms["pseudo"].item() == pytest.approx(reference(strong, weak, 0.0), rel=1e-4)
    assert torch.equal(method.teacher.classifier.head.weight, before)
    method.after_step()
    assert not torch.equal(method.teacher.classifier.head.weight, before)
    assert method.eval_model is small


@pytest.mark.parametrize("teacher_decay", [0.0, 0.9])
def test_only_strong_view_has_gradient(
    teacher_decay: float,
    small: Any,
    make_batch: Callable[..., Batch],
    make_method: Callable[..., Method],
) -> None:
    batch = make_batch()
    small.norm.eval()  # batch statistics would couple all samples
    small.norm.train = lambda mode=True: small.norm
    method = make_method("fixmatch", small, threshold=0.0, teacher_decay=teacher_decay)
    weak, strong = batch.target.inputs.requires_grad_(), batch.target.strong.requires_grad_()
    of_weak, of_strong = torch.autograd.grad(method(batch)["loss"], [weak, strong],
                                             allow_unused=True)  # fmt: skip
    assert of_weak is None or not of_weak.any()
    assert of_strong.any()


def test_loss_equals_source_loss_without_confident_samples(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    terms = make_method("fixmatch", small, threshold=1.0)(make_batch())
    assert terms["sure"] == 0 and terms["loss"] == terms["supervised"]


@pytest.mark.parametrize("options", [{"weight": -1}, {"threshold": -0.1}, {"teacher_decay": 1.0}])
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("fixmatch", None, **options)
