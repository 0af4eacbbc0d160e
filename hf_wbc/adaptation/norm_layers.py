"""Normalization layers in a second phase: trainable parameters and running statistics.

BatchNorm's running statistics become the plain average over the phase's target batches: with a
momentum of None and a count of 0, the first batch replaces the source statistics, and later batches
are averaged in. A layer that receives no batch (the backbone's, on extracted features) keeps its
statistics.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.models import Classifier

NORM_LAYERS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
"""Includes the channels-first variants of timm and transformers, which are subclasses."""


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return every BatchNorm layer with running statistics."""
    found = (m for m in module.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


def affine_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the trainable scales and shifts of normalization layers."""
    norms = (m for m in module.modules() if isinstance(m, NORM_LAYERS))
    return [p for norm in norms for p in norm.parameters(recurse=False) if p.requires_grad]


def train_only(module: nn.Module, parameters: list[nn.Parameter]) -> None:
    """Make the given parameters of a module trainable, and freeze all others."""
    chosen = set(parameters)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in chosen)


def reset_statistics(module: nn.Module) -> None:
    """Reset every BatchNorm; its statistics become the plain average of the next batches."""
    for norm in batch_norms(module):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.zero_()
        norm.momentum = None


def use_batch_statistics(module: nn.Module) -> None:
    """Make every BatchNorm, frozen or not, use batch statistics; disable dropout."""
    module.eval()
    for norm in batch_norms(module):
        norm.train()


def batch_logits(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Return logits (B, C) in fp32 with batch statistics, which update the running averages."""
    use_batch_statistics(classifier)
    logits: Tensor = classifier(inputs).logits.float()
    return logits


def train_without_dropout(module: nn.Module) -> None:
    """Set only BatchNorm layers to training mode, except frozen ones."""
    module.train()
    training = [norm for norm in batch_norms(module) if norm.training]
    module.eval()
    for norm in training:
        norm.train()


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Average the running statistics of every BatchNorm over processes.

    Each process averages over equally many batches, so the result is the average over all batches.
    """
    held: list[Tensor] = []
    for norm in batch_norms(module):
        assert norm.running_mean is not None and norm.running_var is not None
        held += [norm.running_mean, norm.running_var]
    if held and len(all_held := all_gather_batch(torch.cat(held)[None])) > 1:
        parts = torch.split(all_held.mean(0), [len(values) for values in held])
        for values, shared in zip(held, parts, strict=True):
            values.copy_(shared)
