"""Averages of the weights along training, which are evaluated and kept in the raw ones' place.

Batch statistics (BatchNorm) are averaged with the weights, as those of a mean of weights would
otherwise have to be measured anew at every evaluation.

Where SWAD averages: the valley of the validation loss (Cha et al. 2021, arXiv:2102.08604).

Algorithm 1, with windows of steps between two evaluations in place of its single iterations. The
valley begins with the first of `optimum_patience` evaluations (N_s) in a row of which the first is
the best. It ends before the first of `overfit_patience` evaluations (N_e) in a row that all exceed
the threshold: `tolerance` (r) times the mean loss of those N_s. Every step counts alike, so that a
shorter last window counts less.

The mean at any time is of the windows up to the last one within the threshold; those after it wait
until the loss comes back. That is the algorithm's mean once the valley has ended, and the authors'
code's rule where training ends before it. The code's further habits (it starts before the best
evaluation, and counts windows twice) are not the paper's and not kept."""

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
    """The mean of so many steps' weights; of whole numbers (counts of batches), the last."""

    tensors: Weights = field(default_factory=dict)
    count: int = 0

    @torch.no_grad()
    def add(self, tensors: Weights, count: int = 1) -> None:
        """Take in the mean of `count` further steps."""
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
    """Means of the weights, window by window, as the losses come in."""

    def __init__(
        self, optimum_patience: int = 3, overfit_patience: int = 6, tolerance: float = 1.3
    ) -> None:
        """The authors' defaults (tolerance is 1.2 for one of their five data sets)."""
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
        """The newest windows, at most N_s, until the valley begins."""
        self._losses: list[float] = []
        """Theirs."""
        self._threshold = math.nan
        """Not a number until the valley begins."""
        self._num_above = 0

    @property
    def begun(self) -> bool:
        """Whether the loss has stopped falling."""
        return not math.isnan(self._threshold)

    @property
    def ended(self) -> bool:
        """Whether the loss has stayed above the threshold."""
        return self._num_above >= self.overfit_patience

    def add(self, weights: Weights) -> None:
        """Take in one step's weights."""
        self._window.add(weights)

    def close_window(self, loss: float) -> None:
        """The validation loss of the last step's weights."""
        window, self._window = self._window, RunningMean()
        if self.begun:
            self._follow(window, loss)
            return
        num = self.optimum_patience
        self._recent = [*self._recent, window][-num:]
        self._losses = [*self._losses, loss][-num:]
        if len(self._losses) == num and all(self._losses[0] <= each for each in self._losses):
            # The first is the least of them, and their mean below it by rounding alone.
            self._threshold = max(self.tolerance * sum(self._losses) / num, self._losses[0])
            for window, loss in zip(self._recent, self._losses, strict=True):
                self._follow(window, loss)
            self._recent, self._losses = [], []

    def mean(self) -> Weights:
        """The valley's mean; before it has begun the newest window's, at first nothing."""
        if self.begun:
            return self._valley.tensors
        return self._recent[-1].tensors if self._recent else {}

    def _follow(self, window: RunningMean, loss: float) -> None:
        """A window once the valley has begun."""
        self._pending.add(window.tensors, window.count)
        self._num_above = 0 if loss <= self._threshold else self._num_above + 1
        if not self._num_above:
            self._valley.add(self._pending.tensors, self._pending.count)
            self._pending = RunningMean()

    def state_dict(self) -> Weights:
        """Everything as tensors with flat names."""
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
        """The inverse of `state_dict`; `like` gives the names and the device.

        KeyError when a weight is missing.
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
    """Whether it must be told the raw weights' validation loss at each evaluation."""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""

    @property
    def module(self) -> Classifier:
        """The averaged weights as a classifier."""

    def update_parameters(self, classifier: Classifier) -> None:
        """Take in the weights after a step."""

    def after_evaluation(self, source_val_loss: float) -> None:
        """The mean loss of the raw weights of now on the sources' validation images."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that has to survive a kill, as tensors with flat names."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`; KeyError or RuntimeError when it is another's."""


class EmaAverager:
    """A `MovingAverage` of all weights and buffers."""

    wants_loss = False
    ended = False

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self._average = MovingAverage(classifier, decay)

    @property
    def module(self) -> Classifier:
        return self._average.classifier

    def update_parameters(self, classifier: Classifier) -> None:
        self._average.update(classifier)

    def after_evaluation(self, source_val_loss: float) -> None:
        """Nothing: it does not look at the loss."""

    def state_dict(self) -> dict[str, Tensor]:
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._average.load_state_dict(dict(state))


class SwadAverager:
    """The mean of the weights of every step in the valley of the validation loss.

    Stochastic weight averaging densely (Cha et al. 2021, arXiv:2102.08604, algorithm 1); where the
    valley begins and ends is told in `Valley`. Until it has begun, the mean of the newest window
    stands in, as in the authors' code.
    """

    wants_loss = True

    def __init__(
        self,
        classifier: Classifier,
        optimum_patience: int = 3,
        overfit_patience: int = 6,
        tolerance: float = 1.3,
    ) -> None:
        """Options are `Valley`'s; ValueError when one is out of its range."""
        self._module = copy.deepcopy(classifier)
        self._valley = SwadWindow(optimum_patience, overfit_patience, tolerance)
        self._names = _moving(classifier)

    @property
    def module(self) -> Classifier:
        return self._module

    @property
    def ended(self) -> bool:
        """Whether the valley has ended; nothing changes after that."""
        return self._valley.ended

    def update_parameters(self, classifier: Classifier) -> None:
        if not self.ended:
            self._valley.add(_tensors(classifier, self._names))

    def after_evaluation(self, source_val_loss: float) -> None:
        if not self.ended:
            self._valley.close_window(source_val_loss)
            self._show()

    def state_dict(self) -> dict[str, Tensor]:
        return self._valley.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._valley.load_state_dict(state, _tensors(self._module, self._names))
        self._show()

    @torch.no_grad()
    def _show(self) -> None:
        """Copy the mean of now into the module."""
        if mean := self._valley.mean():
            shown = _tensors(self._module, self._names)
            for name, tensor in shown.items():
                tensor.copy_(mean[name])


def make_weight_averager(
    classifier: Classifier, *, ema: float = 0.0, swad: bool = False
) -> WeightAverager | None:
    """What a configuration asks for; None when raw weights are evaluated and kept."""
    assert not (ema and swad)
    if ema:
        return EmaAverager(classifier, ema)
    return SwadAverager(classifier) if swad else None


def _moving(module: nn.Module) -> tuple[str, ...]:
    """Names of the weights that learn, and of all buffers; in a teacher, no weight says it learns.

    A frozen backbone is left out, as its mean is itself.
    """
    parameters = dict(module.named_parameters())
    learning = [name for name, weight in parameters.items() if weight.requires_grad]
    saved = module.state_dict(keep_vars=True)
    buffers = [name for name in saved if name not in parameters]
    return (*(learning or parameters), *buffers)


def _tensors(module: nn.Module, names: tuple[str, ...]) -> Weights:
    state = module.state_dict()
    return {name: state[name] for name in names}
