"""Averages of the weights along training, which are evaluated and kept in the raw ones' place.

Batch statistics (BatchNorm) are averaged with the weights, as those of a mean of weights would
otherwise have to be measured anew at every evaluation.
"""

import copy
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from hf_wbc.engine.valley import Valley, Weights
from hf_wbc.models import Classifier
from hf_wbc.models.moving_average import MovingAverage


class Averaged(Protocol):
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


class Ema:
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


class Swad:
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
        self._valley = Valley(optimum_patience, overfit_patience, tolerance)
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


def make_averaged(
    classifier: Classifier, *, ema: float = 0.0, swad: bool = False
) -> Averaged | None:
    """What a configuration asks for; None when raw weights are evaluated and kept."""
    assert not (ema and swad)
    if ema:
        return Ema(classifier, ema)
    return Swad(classifier) if swad else None


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
