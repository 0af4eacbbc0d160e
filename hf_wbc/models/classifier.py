"""One interface to all classifier families, which returns penultimate features with the logits.

A hook that exists for one forward pass captures the input of the head as features, so
`head(features) == logits` holds for every family in training and evaluation mode. If a family has
dropout before its head (0.8 in MobileNetV2), features in training mode are those after dropout.

Methods that align features need trainable features, but a frozen backbone has nothing trainable
before the head. It therefore gets a linear bottleneck `BatchNorm -> Linear`, like SHOT's "bn"
bottleneck (Liang et al. 2020, arXiv:2002.08546) in reverse order: each extracted feature is
standardized, then projected. In evaluation mode bottleneck and head are affine, so they can be
merged into a single linear head when saving, and the result is a plain transformers model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_wbc.models.utils import seeded_rng


class Bottleneck(nn.Module):
    """Standardizes features (B, d) and projects them to (B, k), with its own head."""

    def __init__(self, num_features: int, width: int, num_labels: int, seed: int) -> None:
        """Initialize the weights from the seed.

        Raises:
            ValueError: If `width` is less than 1.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"bottleneck is {width}; it must be at least 1, or 0 for none")
        with seeded_rng(seed):
            self.norm = nn.BatchNorm1d(num_features)
            self.project = nn.Linear(num_features, width)
            self.head = nn.Linear(width, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """Return projected features (B, k), the input of the head."""
        projected: Tensor = self.project(self.norm(features))
        return projected

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """Return the linear layer (d to labels) that gives the same logits in evaluation mode."""
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
"""Bias of a class that is never predicted; finite in half precision too."""


class Output(NamedTuple):
    """Features and logits of B inputs; under autocast, both may be half precision."""

    features: Tensor
    """Penultimate features (B, d), the input of the head, with gradient."""
    logits: Tensor
    """Logits (B, C)."""


class Classifier(nn.Module):
    """Wraps a transformers image classifier; `model` is what is saved and loaded by others."""

    model: Any
    """The plain transformers model."""
    backbone_frozen: bool = False
    """Whether everything but the head stays in evaluation mode; set by `freeze`."""
    batch_norm_frozen: bool = False
    """Whether BatchNorm keeps its running statistics; set by `freeze`."""
    bottleneck: Bottleneck | None
    """Bottleneck between the model's features and its own head, until it is merged."""

    def __init__(self, model: Any) -> None:
        """Wrap a model.

        Raises:
            ValueError: If the model does not end in a linear layer with one output per label.
        """
        super().__init__()
        self.model = model
        self.head_name = _head_name(model)
        self.bottleneck = None
        for name, parameter in model.named_parameters():
            # Used in masked pre-training only; DDP fails on parameters without gradient.
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
        """Never predict classes that have no training images.

        Without a mask, source images alone push down the logit of such a class, which leaves it
        arbitrary where a target's features are. A masked class has probability 0 and no gradient,
        whatever the loss. A class that was masked in an earlier training and is present now
        restarts from zero.

        Args:
            present: Whether each class has training images, bool (C,).
        """
        reopened = present & (self.head.bias.cpu() <= ABSENT_BIAS / 100)
        for rows, bias in ((~present, ABSENT_BIAS), (reopened, 0.0)):
            self.head.weight[rows] = 0.0
            self.head.bias[rows] = bias

    def add_bottleneck(self, width: int, seed: int) -> None:
        """Add a linear bottleneck with a new head, and freeze the model's own head."""
        assert self.bottleneck is None
        own = self._model_head
        own.requires_grad_(False)
        made = Bottleneck(own.in_features, width, own.out_features, seed)
        self.bottleneck = made.to(own.weight.device).train(self.training)

    def merge_bottleneck(self) -> None:
        """Merge the bottleneck and its head into the model's own head, if there is a bottleneck."""
        if self.bottleneck is not None:
            self._model_head.load_state_dict(self.bottleneck.folded().state_dict())
            self.bottleneck = None

    @torch.no_grad()
    def apply_logit_affine(self, scale: float, bias: Tensor) -> None:
        """Change the head so that `scale * logits + bias`, with `bias` (C,), become the logits."""
        self.head.weight.mul_(scale)
        self.head.bias.mul_(scale).add_(bias.to(self.head.bias))

    def forward(self, inputs: Tensor) -> Output:
        """Run images (B, 3, H, W) through the whole model, or features (B, d) through the head."""
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
        """Return the output for the model's own features (B, d)."""
        if self.bottleneck is not None:
            features = self.bottleneck(features)
        return Output(features, self.head(features))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen parts stay in evaluation mode."""
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
    # Register per call: a permanent hook would be shared by deep copies and keep the tensor alive.
    handle = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()


def _head_name(model: Any) -> str:
    """Return the path of the head: timm's own, else the last linear layer of the right size."""
    num_labels = model.config.num_labels
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    if hasattr(model, "timm_model"):
        head = model.timm_model.get_classifier()
        fitting = [head] if isinstance(head, nn.Linear) else []
    else:
        fitting = [m for m in names if isinstance(m, nn.Linear) and m.out_features == num_labels]
    if not fitting:
        raise ValueError(
            f"{type(model).__name__} does not end in a linear layer with {num_labels} outputs; "
            "choose a classifier with a linear head"
        )
    return names[fitting[-1]]
