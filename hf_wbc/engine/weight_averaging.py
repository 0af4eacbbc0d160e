"""Average weights during training, and evaluate and keep the average instead of the raw weights.

BatchNorm statistics are averaged with the weights; otherwise each evaluation would have to
recompute them for the averaged weights.

`SwadWindow` implements algorithm 1 of SWAD (Cha et al. 2021, arXiv:2102.08604), with windows of
steps between two evaluations instead of single iterations. The valley of the validation loss starts
with the first of `optimum_patience` evaluations (N_s) in a row of which the first is the best. It
ends before the first of `overfit_patience` evaluations (N_e) in a row that all exceed the
threshold: `tolerance` (r) times the mean loss of those N_s evaluations. All steps have equal
weight, so a shorter last window counts less.

The mean covers the windows up to the last one within the threshold; later windows are added only
if the loss falls below the threshold again. Once the valley has ended, this equals the paper's
mean; if training ends first, it follows the authors' code. Other deviations of that code from the
paper (it starts before the best evaluation, and counts windows twice) are not reproduced.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from hf_wbc.models import Classifier
from hf_wbc.models.moving_average import MovingAverage

Weights = dict[str, Tensor]


@dataclass
class RunningMean:
    """Running mean of weights over `count` steps; integer tensors keep their last value."""

    tensors: Weights = field(default_factory=dict)
    count: int = 0

    @torch.no_grad()
    def add(self, tensors: Weights, count: int = 1) -> None:
        """Add the mean of `count` further steps."""
        if not count:
            return
        if not self.count:
            self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        else:
            real = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
            torch._foreach_lerp_(
                [self.tensors[name] for name in real],
                [tensors[name] for name in real],
                count / (self.count + count),
            )
            for name in tensors.keys() - set(real):
                self.tensors[name].copy_(tensors[name])
        self.count += count


class SwadWindow:
    """Averages weights window by window, and detects the valley of the validation loss."""

    def __init__(
        self, optimum_patience: int = 3, overfit_patience: int = 6, tolerance: float = 1.3
    ) -> None:
        """Initialize with the authors' defaults.

        Args:
            optimum_patience: Number of evaluations N_s that start the valley.
            overfit_patience: Number of evaluations N_e above the threshold that end it.
            tolerance: Ratio r of the threshold to the mean loss at the start of the valley; the
                authors use 1.2 on one of their five datasets.

        Raises:
            ValueError: If an argument is out of range.
        """
        if optimum_patience < 1:
            raise ValueError(f"optimum_patience is {optimum_patience}; it must be at least 1")
        if overfit_patience < optimum_patience:
            raise ValueError(
                f"overfit_patience is {overfit_patience}; it must be at least "
                f"optimum_patience, {optimum_patience}"
            )
        if not 1 <= tolerance < math.inf:
            raise ValueError(f"tolerance is {tolerance}; it must be at least 1")
        self.optimum_patience, self.overfit_patience = optimum_patience, overfit_patience
        self.tolerance = tolerance
        self._window, self._valley, self._pending = RunningMean(), RunningMean(), RunningMean()
        self._recent: list[RunningMean] = []
        """The newest windows, at most N_s, until the valley starts."""
        self._losses: list[float] = []
        """Validation losses of `_recent`."""
        self._threshold = math.nan
        """NaN until the valley starts."""
        self._num_above = 0

    @property
    def begun(self) -> bool:
        """Whether the valley has started."""
        return not math.isnan(self._threshold)

    @property
    def ended(self) -> bool:
        """Whether the loss has stayed above the threshold."""
        return self._num_above >= self.overfit_patience

    def add(self, weights: Weights) -> None:
        """Add the weights of one step."""
        self._window.add(weights)

    def close_window(self, loss: float) -> None:
        """Close the current window with the validation loss of its last step's weights."""
        window, self._window = self._window, RunningMean()
        if self.begun:
            self._follow(window, loss)
            return
        num = self.optimum_patience
        self._recent = [*self._recent, window][-num:]
        self._losses = [*self._losses, loss][-num:]
        if len(self._losses) == num and all(self._losses[0] <= each for each in self._losses):
            # The first loss is the lowest; only rounding can put the mean below it.
            self._threshold = max(self.tolerance * sum(self._losses) / num, self._losses[0])
            for window, loss in zip(self._recent, self._losses, strict=True):
                self._follow(window, loss)
            self._recent, self._losses = [], []

    def mean(self) -> Weights:
        """Return the valley's mean.

        Before the valley starts this is the mean of the newest window, or empty without one.
        """
        if self.begun:
            return self._valley.tensors
        return self._recent[-1].tensors if self._recent else {}

    def _follow(self, window: RunningMean, loss: float) -> None:
        """Add a window after the start of the valley."""
        self._pending.add(window.tensors, window.count)
        self._num_above = 0 if loss <= self._threshold else self._num_above + 1
        if not self._num_above:
            self._valley.add(self._pending.tensors, self._pending.count)
            self._pending = RunningMean()

    def state_dict(self) -> Weights:
        """Return the state as tensors with flat names."""
        means = [self._window, self._valley, self._pending, *self._recent]
        numbers = [self._threshold, float(self._num_above), *self._losses]
        state = {
            "counts": torch.tensor([mean.count for mean in means]),
            "numbers": torch.tensor(numbers, dtype=torch.float64),
        }
        for i, mean in enumerate(means):
            state |= {f"{i}.{name}": tensor for name, tensor in mean.tensors.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor], like: Weights) -> None:
        """Restore the state from `state_dict`; `like` gives names and devices of the weights.

        Raises:
            KeyError: If a weight is missing.
        """
        means = [
            RunningMean({name: state[f"{i}.{name}"].to(like[name].device) for name in like}, count)
            if count
            else RunningMean()
            for i, count in enumerate(state["counts"].tolist())
        ]
        self._window, self._valley, self._pending, *self._recent = means
        self._threshold, num_above, *self._losses = state["numbers"].tolist()
        self._num_above = int(num_above)


class WeightAverager(Protocol):
    """Averaged weights of a classifier."""

    wants_loss: bool
    """Whether it needs the raw weights' validation loss at each evaluation."""

    @property
    def ended(self) -> bool:
        """Whether the average no longer changes."""

    @property
    def module(self) -> Classifier:
        """The averaged weights as a classifier."""

    def update_parameters(self, classifier: Classifier) -> None:
        """Add the weights after a step."""

    def after_evaluation(self, source_val_loss: float) -> None:
        """Receive the current raw weights' mean loss on the sources' validation images."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state needed to resume, as tensors with flat names."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state from `state_dict`.

        Raises:
            KeyError: If the state belongs to another model or averager.
            RuntimeError: Likewise.
        """


class EmaAverager:
    """Exponential moving average of all weights and buffers; see `MovingAverage`."""

    wants_loss = False
    ended = False

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self._average = MovingAverage(classifier, decay)

    @property
    def module(self) -> Classifier:
        """The classifier with the averaged weights."""
        return self._average.classifier

    def update_parameters(self, classifier: Classifier) -> None:
        """Add the weights after an optimizer step."""
        self._average.update(classifier)

    def after_evaluation(self, source_val_loss: float) -> None:
        """Ignore the loss."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the tensors of a checkpoint."""
        self._average.load_state_dict(dict(state))


class SwadAverager:
    """Mean of the weights of every step in the valley of the validation loss.

    Stochastic weight averaging densely (SWAD; Cha et al. 2021, arXiv:2102.08604, algorithm 1);
    `SwadWindow` determines the valley. Before the valley starts, the mean of the newest window is
    used, as in the authors' code.
    """

    wants_loss = True

    def __init__(
        self,
        classifier: Classifier,
        optimum_patience: int = 3,
        overfit_patience: int = 6,
        tolerance: float = 1.3,
    ) -> None:
        """Copy the classifier; the options are those of `SwadWindow`.

        Raises:
            ValueError: If an option is out of range.
        """
        self._module = copy.deepcopy(classifier)
        self._valley = SwadWindow(optimum_patience, overfit_patience, tolerance)
        self._names = _moving(classifier)

    @property
    def module(self) -> Classifier:
        """The classifier with the averaged weights."""
        return self._module

    @property
    def ended(self) -> bool:
        """Whether the valley has ended, after which nothing changes."""
        return self._valley.ended

    def update_parameters(self, classifier: Classifier) -> None:
        """Add the weights after an optimizer step."""
        if not self.ended:
            self._valley.add(_tensors(classifier, self._names))

    def after_evaluation(self, source_val_loss: float) -> None:
        """Pass on the validation loss of the window that ends."""
        if not self.ended:
            self._valley.close_window(source_val_loss)
            self._show()

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        return self._valley.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the tensors of a checkpoint."""
        self._valley.load_state_dict(state, _tensors(self._module, self._names))
        self._show()

    @torch.no_grad()
    def _show(self) -> None:
        """Copy the current mean into the module."""
        if mean := self._valley.mean():
            shown = _tensors(self._module, self._names)
            for name, tensor in shown.items():
                tensor.copy_(mean[name])


def make_weight_averager(
    classifier: Classifier, *, ema: float = 0.0, swad: bool = False
) -> WeightAverager | None:
    """Create the configured averager; None if raw weights are evaluated and kept."""
    assert not (ema and swad)
    if ema:
        return EmaAverager(classifier, ema)
    return SwadAverager(classifier) if swad else None


def _moving(module: nn.Module) -> tuple[str, ...]:
    """Return the names of all trainable weights and buffers.

    Frozen weights are excluded, because their mean does not change. If no weight is trainable, as
    in a teacher, all weights are included.
    """
    parameters = dict(module.named_parameters())
    learning = [name for name, weight in parameters.items() if weight.requires_grad]
    saved = module.state_dict(keep_vars=True)
    buffers = [name for name in saved if name not in parameters]
    return (*(learning or parameters), *buffers)


def _tensors(module: nn.Module, names: tuple[str, ...]) -> Weights:
    state = module.state_dict()
    return {name: state[name] for name in names}
