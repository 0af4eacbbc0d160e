"""Small networks, batches, and numerical gradients for all method tests."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.small_methods import Convolutional, Small, default_info, draw_batch
from torch import Tensor, nn

from hf_wbc.adaptation import Method, TrainingInfo, load_method
from hf_wbc.data.batch import Batch

Array = NDArray[np.float64]


@pytest.fixture
def small() -> Small:
    """Build the small network from a seed."""
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def convolutional() -> Convolutional:
    """Build the small image network from a seed."""
    torch.manual_seed(0)
    return Convolutional()


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Draw a batch; see `draw_batch`."""
    return draw_batch


@pytest.fixture
def make_method() -> Callable[..., Method]:
    """Build a method around a classifier: `make_method(name, classifier, **options)`.

    `setting` replaces the default training info.
    """

    def make(
        name: str, classifier: nn.Module, *, info: TrainingInfo | None = None, **options: object
    ) -> Method:
        found = load_method(name)
        torch.manual_seed(1)
        method = found(classifier, found.parse(options))  # type: ignore[arg-type]
        method.setup(default_info() if info is None else info)
        return method.train()

    return make


@pytest.fixture
def make_info() -> Callable[..., TrainingInfo]:
    """Return the default training info with changes; see `default_info`."""
    return default_info


@pytest.fixture
def assert_loss_is() -> Callable[..., None]:
    """Compare a loss with its reference in value and gradient; see `compare`."""
    return compare


def compare(
    loss: Callable[..., Tensor],
    reference: Callable[..., float],
    *arrays: Array,
    rel: float = 1e-6,
    step: float = 1e-5,
    num_checked: int = 12,
) -> None:
    """Assert that `loss` on float64 tensors matches `reference` on arrays in value and gradient.

    The reference gradient uses central differences at a few entries of each array.
    """
    tensors = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
    value = loss(*tensors)
    assert value.item() == pytest.approx(reference(*arrays), rel=rel, abs=1e-9)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    rng = np.random.default_rng(0)
    for which, gradient in enumerate(gradients):
        found = np.zeros(arrays[which].shape) if gradient is None else gradient.numpy()
        for place in rng.permutation(arrays[which].size)[:num_checked]:
            at = np.unravel_index(place, arrays[which].shape)
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in arrays]
                moved[which][at] += sign * step
                ends.append(reference(*moved))
            numerical = (ends[0] - ends[1]) / (2 * step)
            assert found[at] == pytest.approx(numerical, rel=1e-3, abs=1e-6)
