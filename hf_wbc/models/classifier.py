"""One face for every family: a classifier that gives its penultimate features with its logits.

The features are the head's own input, caught by a hook that lives for one forward pass, so that
`head(features) == logits` holds for every family and in both modes. Where a family has dropout
before its head (MobileNetV2's is .8), the features of a training pass are those after dropout.

A linear bottleneck before the head, which is folded into the head when the model is saved.

Methods that align features need features that can move. On a frozen backbone nothing before the
head can, so they get `BatchNorm -> Linear`, as SHOT's "bn" bottleneck (Liang et al. 2020,
arXiv:2002.08546) the other way round: each embedded feature is standardised, then projected. All of
it is affine in evaluation mode, so bottleneck and head together are one linear head, and what
others load is the plain transformers model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_wbc.models.utils import seeded_rng


class Bottleneck(nn.Module):
    """Features (B, d) standardised and projected to (B, k), with a head of its own."""

    def __init__(self, num_features: int, width: int, num_labels: int, seed: int) -> None:
        """Weights are drawn from the seed. ValueError for a width below 1."""
        super().__init__()
        if width < 1:
            raise ValueError(f"bottleneck is {width}; it must be at least 1, or 0 for none")
        with seeded_rng(seed):
            self.norm = nn.BatchNorm1d(num_features)
            self.project = nn.Linear(num_features, width)
            self.head = nn.Linear(width, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, k), the head's input."""
        projected: Tensor = self.project(self.norm(features))
        return projected

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear layer (d to labels) that gives the same logits in evaluation mode."""
        norm, mean, var = self.norm, self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None
        scale = norm.weight.double() / (var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - mean.double() * scale
        mixed = self.head.weight.double() @ self.project.weight.double()
        bias = self.head.weight.double() @ self.project.bias.double() + self.head.bias.double()
        made = nn.Linear(self.project.in_features, self.head.out_features, device=mixed.device)
        made.weight.copy_(mixed * scale)
        made.bias.copy_(bias + mixed @ shift)
        return made


ABSENT_BIAS = -1e4
"""The bias of a class that is never predicted; finite in half precision too."""


class Output(NamedTuple):
    """What a classifier says of B inputs; under autocast both may be half precision."""

    features: Tensor
    """Penultimate features (B, d), the head's input, with their gradient."""
    logits: Tensor
    """Class scores before softmax (B, C)."""


class Classifier(nn.Module):
    """Wraps any transformers image classifier. Not the wrapper but `model` is what others load."""

    model: Any
    """The plain transformers model."""
    backbone_frozen: bool = False
    """Everything but the head stays in evaluation mode; `freeze` sets it."""
    batch_norm_frozen: bool = False
    """BatchNorm keeps its running statistics; `freeze` sets it."""
    bottleneck: Bottleneck | None
    """Between the model's features and a head of its own, until it is folded away."""

    def __init__(self, model: Any) -> None:
        """ValueError when the model ends in no linear layer with one output per label."""
        super().__init__()
        self.model = model
        self.head_name = _head_name(model)
        self.bottleneck = None
        for name, parameter in model.named_parameters():
            # Used in masked pre-training only; a parameter without gradient stops DDP.
            if name.rpartition(".")[2] == "mask_token":
                parameter.requires_grad_(False)

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, from features (B, d) to logits (B, C)."""
        return self._model_head if self.bottleneck is None else self.bottleneck.head

    @property
    def _model_head(self) -> nn.Linear:
        head = self.model.get_submodule(self.head_name)
        assert isinstance(head, nn.Linear)
        return head

    @property
    def num_features(self) -> int:
        """Width d of the penultimate features."""
        return self.head.in_features

    @torch.no_grad()
    def mask_absent_classes(self, present: Tensor) -> None:
        """Never predict a class that is not `present` (C,) bool: no image will say what it is.

        Left open, its logit is pushed down on source images alone, and nothing holds it where a
        target's features lie. A closed one has probability 0 and no gradient, whatever the loss. A
        class that an earlier training closed, and that is present now, starts anew.
        """
        reopened = present & (self.head.bias.cpu() <= ABSENT_BIAS / 100)
        for rows, bias in ((~present, ABSENT_BIAS), (reopened, 0.0)):
            self.head.weight[rows] = 0.0
            self.head.bias[rows] = bias

    def add_bottleneck(self, width: int, seed: int) -> None:
        """Put a linear bottleneck before a new head; the model's own head stops learning."""
        assert self.bottleneck is None
        own = self._model_head
        own.requires_grad_(False)
        made = Bottleneck(own.in_features, width, own.out_features, seed)
        self.bottleneck = made.to(own.weight.device).train(self.training)

    def merge_bottleneck(self) -> None:
        """Make the model's own head do what bottleneck and head do; without one nothing happens."""
        if self.bottleneck is not None:
            self._model_head.load_state_dict(self.bottleneck.folded().state_dict())
            self.bottleneck = None

    @torch.no_grad()
    def apply_logit_affine(self, scale: float, bias: Tensor) -> None:
        """Make `scale * logits + bias` (C,) the new logits, within the head."""
        self.head.weight.mul_(scale)
        self.head.bias.mul_(scale).add_(bias.to(self.head.bias))

    def forward(self, inputs: Tensor) -> Output:
        """Images (B, 3, H, W) through the whole model, features (B, d) through the head alone."""
        if inputs.ndim == 2:
            return self._end(inputs)
        if inputs.ndim != 4:
            raise ValueError(
                f"inputs have shape {tuple(inputs.shape)}; "
                "give images (B, 3, H, W) or features (B, d)"
            )
        with _inputs_of(self._model_head) as caught:
            logits = self.model(pixel_values=inputs).logits
        return Output(caught[-1], logits) if self.bottleneck is None else self._end(caught[-1])

    def _end(self, features: Tensor) -> Output:
        """From the model's own features (B, d) on."""
        if self.bottleneck is not None:
            features = self.bottleneck(features)
        return Output(features, self.head(features))

    def train(self, mode: bool = True) -> Self:
        """As usual, but what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.backbone_frozen:
            self.model.eval()
        if self.batch_norm_frozen:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    caught: list[Tensor] = []
    # Hooked anew each time: a lasting hook would be shared by deep copies, and hold the tensor.
    handle = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()


def _head_name(model: Any) -> str:
    """Path of the head; timm's model knows its own, elsewhere it is the last fitting linear."""
    num_labels = model.config.num_labels
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    if hasattr(model, "timm_model"):
        head = model.timm_model.get_classifier()
        fitting = [head] if isinstance(head, nn.Linear) else []
    else:
        fitting = [m for m in names if isinstance(m, nn.Linear) and m.out_features == num_labels]
    if not fitting:
        raise ValueError(
            f"{type(model).__name__} ends in no linear layer with {num_labels} outputs; "
            "choose a classifier with a linear head"
        )
    return names[fitting[-1]]
