"""Normalisation layers in a second phase: which weights learn, and whose statistics are held.

BatchNorm's running statistics become a plain average over the target batches of the phase: with a
momentum of None and a count of 0, the first batch replaces what the source left, and the next ones
are averaged in. A layer that no batch passes (the backbone's, on embedded features) keeps its own.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.models import Classifier

NORM_LAYERS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
"""timm's and transformers' variants for maps with channels first are subclasses of these."""


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Every BatchNorm with running statistics."""
    found = (m for m in module.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


def affine_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Scales and shifts of normalisation layers that learn."""
    norms = (m for m in module.modules() if isinstance(m, NORM_LAYERS))
    return [p for norm in norms for p in norm.parameters(recurse=False) if p.requires_grad]


def train_only(module: nn.Module, parameters: list[nn.Parameter]) -> None:
    """No other parameter of the module learns."""
    chosen = set(parameters)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in chosen)


def reset_statistics(module: nn.Module) -> None:
    """The next batches' statistics replace what every BatchNorm holds, as their plain average."""
    for norm in batch_norms(module):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.zero_()
        norm.momentum = None


def use_batch_statistics(module: nn.Module) -> None:
    """Every BatchNorm takes the batch's statistics, frozen or not; no dropout anywhere."""
    module.eval()
    for norm in batch_norms(module):
        norm.train()


def batch_logits(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Logits (B, C) in fp32 under the batch's own statistics, which are averaged in."""
    use_batch_statistics(classifier)
    logits: Tensor = classifier(inputs).logits.float()
    return logits


def train_without_dropout(module: nn.Module) -> None:
    """As in training, but of all modules only BatchNorm, where it is not frozen, is."""
    module.train()
    training = [norm for norm in batch_norms(module) if norm.training]
    module.eval()
    for norm in training:
        norm.train()


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Every BatchNorm's running statistics become their mean over processes.

    As averages over equally many batches on each process, they are then averages over all.
    """
    held: list[Tensor] = []
    for norm in batch_norms(module):
        assert norm.running_mean is not None and norm.running_var is not None
        held += [norm.running_mean, norm.running_var]
    if held and len(all_held := all_gather_batch(torch.cat(held)[None])) > 1:
        parts = torch.split(all_held.mean(0), [len(values) for values in held])
        for values, shared in zip(held, parts, strict=True):
            values.copy_(shared)
