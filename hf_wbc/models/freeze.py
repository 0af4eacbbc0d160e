"""Set which weights and running statistics of a classifier are trained, LoRA included.

LoRA (Hu et al. 2021, arXiv:2106.09685) learns small updates of frozen attention layers. A linear
layer W x becomes W x + (alpha / rank) B A x with trainable A (rank, in) and B (out, rank). B starts
at zero, so the output does not change before the first step. Every linear layer of the attention is
adapted: queries, keys, values and output. Merging adds the product to W, so the saved model has its
original architecture.
"""

import importlib.util
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from hf_wbc.models.classifier import Classifier
from hf_wbc.models.utils import seeded_rng
from hf_wbc.text import did_you_mean

FAMILIES = ("vit", "dinov2", "dinov2_with_registers", "swinv2", "timm_wrapper of a ViT")
"""Families known to have linear attention layers; convolutional families have none."""
_IN_ATTENTION = re.compile(r"(^|\.)(attn|\w*attention)\.(?!.*bias_mlp)")


@dataclass(frozen=True)
class Lora:
    """Size of the LoRA updates."""

    rank: int = 8
    """Width of A and B."""
    alpha: float = 16.0
    """Scale of the updates: their product is multiplied by alpha / rank."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora_rank is {self.rank}; it must be at least 1")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"lora_alpha is {self.alpha}; it must be positive")


def attention_layers(classifier: Classifier) -> tuple[str, ...]:
    """Return the paths in `classifier.model` of the linear layers of its attention."""
    return tuple(
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear)
        and name != classifier.head_name
        and _IN_ATTENTION.search(name)
    )


def add_lora(classifier: Classifier, lora: Lora, seed: int = 0) -> None:
    """Freeze everything but the head, and add trainable LoRA updates to the attention layers.

    A is initialized from the seed.

    Raises:
        ValueError: If the model has no attention layers, or peft is not installed.
    """
    layers = attention_layers(classifier)
    if not layers:
        raise ValueError(
            f"LoRA adapts attention layers, but {type(classifier.model).__name__} has none; use "
            f"{', '.join(FAMILIES)}, or --trainable full or frozen"
        )
    if importlib.util.find_spec("peft") is None:
        raise ValueError("LoRA needs peft; install hf_wbc with its extra: pip install '.[lora]'")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(layers))  # type: ignore[arg-type, unused-ignore]
    with seeded_rng(seed):
        inject_adapter_in_model(config, classifier.model)
    classifier.model.requires_grad_(False)
    classifier.head.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, regardless of the model's device
    for _, layer in _adapted(classifier):
        for down, up in zip(layer.lora_A.values(), layer.lora_B.values(), strict=True):
            bound = down.in_features**-0.5
            drawn = torch.rand(down.weight.shape, generator=generator) * 2 * bound - bound
            down.weight.data.copy_(drawn)
            nn.init.zeros_(up.weight)
            down.requires_grad_(True)
            up.requires_grad_(True)


def merge_lora(classifier: Classifier) -> None:
    """Merge the LoRA updates into the layers that they adapt, which restores the architecture.

    Does nothing without LoRA.

    Raises:
        ValueError: If merged weights are not finite.
    """
    for name, layer in _adapted(classifier):
        layer.merge(safe_merge=True)
        parent, _, attribute = name.rpartition(".")
        setattr(classifier.model.get_submodule(parent), attribute, layer.get_base_layer())
    vars(classifier.model).pop("peft_config", None)


def _adapted(classifier: Classifier) -> list[tuple[str, Any]]:
    """Return adapted layers with their paths, without importing peft."""
    modules = classifier.model.named_modules()
    return [(name, module) for name, module in modules if hasattr(module, "lora_A")]


Trainable = Literal["full", "frozen", "lora"]
BatchNorm = Literal["train", "frozen"]


def freeze(
    classifier: Classifier,
    trainable: Trainable = "full",
    batch_norm: BatchNorm = "train",
    lora: Lora | None = None,
    seed: int = 0,
) -> None:
    """Set which parts of a classifier are trained; call it once, before creating the optimizer.

    The setting holds through later calls of `train()`.

    Args:
        classifier: The classifier.
        trainable: "full" trains all weights. "frozen" trains the head alone: the backbone stays in
            evaluation mode, including its statistics and any dropout before the head, so a linear
            probe on images learns the same as one on extracted features. "lora" trains the head and
            LoRA updates of the attention layers.
        batch_norm: "frozen" keeps BatchNorm's running statistics; scale and shift are still
            trained.
        lora: Size of the LoRA updates.
        seed: Seed of the LoRA updates.

    Raises:
        ValueError: If an argument is unknown, or LoRA does not support the model.
    """
    for name, value, choices in (
        ("trainable", trainable, get_args(Trainable)),
        ("batch_norm", batch_norm, get_args(BatchNorm)),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; {did_you_mean(value, choices)}")
    classifier.backbone_frozen = trainable == "frozen"
    classifier.batch_norm_frozen = batch_norm == "frozen"
    if trainable == "frozen":
        classifier.model.requires_grad_(False)
        # A bottleneck is outside the model and stays trainable.
        classifier.head.requires_grad_(True)
    elif trainable == "lora":
        add_lora(classifier, lora or Lora(), seed)
    classifier.train(classifier.training)
