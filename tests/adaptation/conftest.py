"""Two small real networks, batches for them, and numerical gradients for all method tests."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_wbc.adaptation import Method, TrainingInfo, load_method
from hf_wbc.data.batch import Batch, SourceView, TargetView
from hf_wbc.models import Output
from hf_wbc.taxonomy import NUM_CLASSES

Array = NDArray[np.float64]


class Small(nn.Module):
    """A `Classifier` stand-in for features: bottleneck with BatchNorm and a linear head."""

    def __init__(self, num_inputs: int = 6, num_features: int = 4) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_inputs)
        self.project = nn.Linear(num_inputs, num_features)
        self.head = nn.Linear(num_features, NUM_CLASSES)
        self.num_features = num_features

    def forward(self, inputs: Tensor) -> Output:
        features = self.project(self.norm(inputs))
        return Output(features, self.head(features))


class Convolutional(nn.Module):
    """A `Classifier` stand-in for images: three convolutional stages and a linear head."""

    def __init__(self, num_features: int = 4) -> None:
        super().__init__()
        widths = (3, 4, 5, num_features)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(k, m, 3, 2, 1), nn.BatchNorm2d(m), nn.ReLU())
                for k, m in pairwise(widths)
            )
        )
        self.head = nn.Linear(num_features, NUM_CLASSES)
        self.num_features = num_features

    def forward(self, inputs: Tensor) -> Output:
        features = self.stages(inputs).mean((2, 3))
        return Output(features, self.head(features))


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


def draw_batch(
    labels: Sequence[int] = (0, 3, 8, 9, 10, 8),
    num_target: int | None = None,
    *,
    shift: float = 0.5,
    num_inputs: int = 6,
    seed: int = 0,
    domains: Sequence[int] | None = None,
    progress: float = 0.5,
    images: bool = False,
) -> Batch:
    """Draw inputs around one point per class, with the target moved by `shift`, and strong views.

    Inputs are embedded features (B, num_inputs) or images (B, 3, 16, 16).
    """
    shape = (3, 16, 16) if images else (num_inputs,)
    rng = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(NUM_CLASSES, *shape, generator=rng)

    def view(classes: Tensor, moved: float) -> dict[str, Tensor]:
        inputs = centres[classes] + 0.3 * torch.randn(len(classes), *shape, generator=rng)
        noise = 0.2 * torch.randn(len(classes), *shape, generator=rng)
        inputs = inputs + moved
        return {"inputs": inputs, "strong": inputs + noise, "index": torch.arange(len(classes))}

    true = torch.tensor(labels)
    number = len(labels) if num_target is None else num_target
    unknown = torch.randint(NUM_CLASSES, (number,), generator=rng)
    whose = torch.arange(len(true)) % 2 if domains is None else torch.tensor(domains)
    return Batch(
        source=SourceView(**view(true, 0.0), labels=true, domains=whose),
        target=TargetView(**view(unknown, shift), domains=torch.zeros(number, dtype=torch.int64)),
        progress=progress,
    )


def default_info(**changes: object) -> TrainingInfo:
    """Describe two sources, the first without myeloblasts, and 100 target images seen 16 times."""
    counts = torch.full((2, NUM_CLASSES), 50)
    counts[0, 3] = 0
    values = {
        "num_steps": 100,
        "source_domains": ("a", "b"),
        "class_counts": counts,
        "num_target": 100,
        "adapt_passes": 16.0,
    }
    return TrainingInfo(**(values | changes))  # type: ignore[arg-type]


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
