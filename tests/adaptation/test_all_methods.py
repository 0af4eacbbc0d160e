"""What holds of every method, whatever it is called: finite, differentiable, blind to order."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hf_wbc.adaptation import Method, load_method, method_names
from hf_wbc.data.batch import Batch, TargetBatch, View

NAMES = [name for name in method_names() if not load_method(name).needs.images]
BATCHES = {
    "one sample": {"labels": (3,)},
    "one class": {"labels": (8,) * 6},
    "an absent class": {"labels": (0, 1, 2, 8, 9, 10)},
    "one target sample": {"num_target": 1},
}


def phases(method: Method, batch: Batch) -> list[Batch | TargetBatch]:
    """A batch for each phase that the method has."""
    assert batch.target is not None
    found: list[Batch | TargetBatch] = [batch if method.needs.target else only_source(batch)]
    if method.adapt_passes:
        found.append(TargetBatch(target=batch.target, progress=batch.progress))
    return found


def only_source(batch: Batch) -> Batch:
    """A method that needs no target gets none."""
    return replace(batch, target=None)


def losses(method: Method, batch: Batch) -> list[torch.Tensor]:
    """The loss of each phase, backward included where weights learn."""
    found = []
    for number, part in enumerate(phases(method, batch)):
        if number:
            method.start_adapting()
        terms = method(part)
        assert all(term.ndim == 0 for term in terms.values()), "terms are scalars"
        if terms["loss"].requires_grad:
            method.zero_grad()
            terms["loss"].backward()
        found.append(terms["loss"].detach())
        method.after_step()
    return found


@pytest.fixture
def still(small: Any) -> Any:
    """The small network with fixed BatchNorm statistics, so that one sample is enough."""
    small.norm.running_mean += 0.1
    return small


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", BATCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradients_are_finite(
    name: str, what: str, dtype: torch.dtype, still: Any,
    make_batch: Callable[..., Batch], make_method: Callable[..., Method],
) -> None:  # fmt: skip
    method = make_method(name, still)
    still.norm.eval()
    still.norm.train = lambda mode=True: still.norm  # one sample has no variance
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        for loss in losses(method, make_batch(**BATCHES[what])):
            assert torch.isfinite(loss), f"{name}: {loss}"
    for parameter in method.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_does_not_depend_on_the_order_of_a_batch(
    name: str, small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch()
    found = []
    for order in (range(6), (3, 1, 5, 0, 2, 4)):
        torch.manual_seed(3)
        method = make_method(name, copy.deepcopy(small))
        method.eval()
        found.append(losses(method, reordered(batch, order))[0])
    assert found[1].item() == pytest.approx(found[0].item(), rel=1e-4, abs=1e-5)


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """The same samples in another order."""
    rows = torch.tensor(order)

    def moved(view: View) -> View:
        held = {key: value[rows] for key, value in vars(view).items() if value is not None}
        return replace(view, **held)

    assert batch.target is not None
    return replace(batch, source=moved(batch.source), target=moved(batch.target))


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_that_learns_gets_a_gradient(
    name: str, small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    """DistributedDataParallel waits for the gradient of each."""
    method = make_method(name, small)
    for number, part in enumerate(phases(method, make_batch())):
        if number:
            method.start_adapting()
        learning = {n: p for n, p in method.named_parameters() if p.requires_grad}
        terms = method(part)
        if not learning:
            assert number and not terms["loss"].requires_grad
            continue
        terms["loss"].backward()
        lacking = [n for n, p in learning.items() if p.grad is None]
        assert not lacking, f"{name}: {lacking}"
        method.zero_grad()
