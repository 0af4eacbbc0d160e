"""The batches that a method sees: a source view, a target view, and the training progress.

Only a source view has labels, so a method cannot use target labels by mistake. Target samples that
a person has labeled come as a source view of their own, which `Method.forward` alone reads.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DomainView:
    """B samples in the order in which they were drawn."""

    inputs: Tensor
    """Normalized images (B, 3, H, W) or embedded features (B, d), float32."""
    domains: Tensor
    """Index of each sample's domain among the sources or targets, (B,), int64."""
    index: Tensor
    """Row of each sample in the training set, (B,), int64."""
    strong: Tensor | None = None
    """A second, strongly augmented view of the same samples, if the method needs one."""


@dataclass(frozen=True, kw_only=True)
class TargetView(DomainView):
    """Samples of the targets; there is no field for labels, so no method can see them."""


@dataclass(frozen=True, kw_only=True)
class SourceView(DomainView):
    """Labeled samples of the sources."""

    labels: Tensor
    """Class ids (B,), int64."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The input of one forward pass."""

    source: SourceView
    target: TargetView | None = None
    progress: float = 0.0
    """Completed fraction of the optimizer steps, in [0, 1)."""
    labeled: SourceView | None = None
    """Target samples that a person has labeled, if the run has any; `domains` are targets."""


@dataclass(frozen=True, kw_only=True)
class TargetBatch:
    """The input of one forward pass in the second phase, which has no source data."""

    target: TargetView
    progress: float = 0.0
    """Completed fraction of the steps of the second phase, in [0, 1)."""
    epochs: float = 0.0
    """Completed passes over the target images in the second phase."""
    labeled: SourceView | None = None
    """As in `Batch`."""
