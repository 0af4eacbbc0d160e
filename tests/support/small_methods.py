"""Two small real networks, batches for them, and training info, for tests of methods."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hf_wbc.adaptation import TrainingInfo
from hf_wbc.data.batch import Batch, SourceView, TargetView
from hf_wbc.models import Output
from hf_wbc.taxonomy import NUM_CLASSES


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
    centers = 2 * torch.randn(NUM_CLASSES, *shape, generator=rng)

    def view(classes: Tensor, moved: float) -> dict[str, Tensor]:
        inputs = centers[classes] + 0.3 * torch.randn(len(classes), *shape, generator=rng)
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
