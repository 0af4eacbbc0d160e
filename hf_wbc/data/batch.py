"""What a method sees of the data: a view of the source, a view of the target, and the progress.

Only a source view has labels: a method cannot leak what it cannot see.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DomainView:
    """B samples in the order in which they were drawn."""

    inputs: Tensor
    """Normalised images (B, 3, H, W), or embedded features (B, d)."""
    domains: Tensor
    """Index of each sample's domain among the sources or targets (B,), int64."""
    index: Tensor
    """Row of each sample in the whole training set (B,), int64."""
    strong: Tensor | None = None
    """A second, more strongly changed view of the same samples, when the method needs it."""


@dataclass(frozen=True, kw_only=True)
class TargetView(DomainView):
    """Unlabelled samples."""


@dataclass(frozen=True, kw_only=True)
class SourceView(DomainView):
    """Labelled samples."""

    labels: Tensor
    """Class ids (B,), int64."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One forward pass."""

    source: SourceView
    target: TargetView | None = None
    progress: float = 0.0
    """Fraction of the optimizer steps that is done, in [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class TargetBatch:
    """One forward pass of a second phase, which sees no source."""

    target: TargetView
    progress: float = 0.0
    """Fraction of the second phase's steps that is done, in [0, 1)."""
    epochs: float = 0.0
    """Passes over the target's images that this phase has made so far."""
