"""Parameter groups of AdamW: weight decay, and the learning rate of each block.

Layer-wise learning rates follow BEiT (Bao et al. 2022, arXiv:2106.08254, app. H) and ELECTRA. With
N blocks from input to head, block i has the rate lr * layer_decay ** (N - 1 - i), layers before the
first block lr * layer_decay ** N, and the last norm and the head lr.

Blocks are identified by name: a parameter's path is cut after its second index into a list of
blocks (stage and block: `encoder.stages.2.layers.5`), or after the first index if there is a single
level (`layers.11`). Layers of a stage outside its blocks (downsampling) form a block of their own.
"""

import re
from typing import Any

from torch import nn

from hf_wbc.models.classifier import Classifier

_UNDECAYED = re.compile(
    r"(_tokens?|pos_embed|position_embeddings?|bias_table)$|position_bias|bias$"
)


def param_groups(
    module: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return parameter groups of the trainable parameters of a classifier, or a method around one.

    Biases, norms, tokens and position embeddings have no weight decay. Parameters of a method
    outside its classifier (a discriminator) have the full learning rate. Each parameter is in one
    group.

    Args:
        module: The classifier or method.
        lr: The full learning rate.
        weight_decay: Weight decay of AdamW.
        layer_decay: Factor of the learning rate from each block to the one before it.
    """
    scales = _scales(module, layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if _decays(name, parameter) else 0.0
            groups.setdefault((lr * scales.get(name, 1.0), decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter decays: two or more dimensions, and no token, position or norm."""
    shape = parameter.shape
    in_disguise = len(shape) > 2 and max(shape) == parameter.numel()  # (1, 1, 1, C) of a norm
    return len(shape) > 1 and not in_disguise and not _UNDECAYED.search(name)


def _scales(module: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the fraction of the full rate of each parameter of every classifier in a module."""
    scales = {}
    for path, part in module.named_modules():
        if isinstance(part, Classifier):
            prefix = f"{path}." if path else ""
            for name, depth in block_depths(part).items():
                scales[prefix + name] = layer_decay**depth
    return scales


def block_depths(classifier: Classifier) -> dict[str, int]:
    """Return the number of blocks after each parameter's own block.

    It is 0 for the last block, the layers after it and the head. Layers between two blocks belong
    to the first of them.
    """
    units = _units(classifier)
    number = {block: index for index, block in enumerate(block_paths(classifier), start=1)}
    depths, passed = {}, 0
    for name, unit in units.items():
        passed = number.get(unit, passed)
        depths[name] = len(number) - passed
    return depths


def block_paths(classifier: Classifier) -> tuple[str, ...]:
    """Return the paths of the blocks in a classifier, in the order of their parameters."""
    return tuple(dict.fromkeys(unit for unit in _units(classifier).values() if unit))


def _units(classifier: Classifier) -> dict[str, str]:
    """Return the path of the block of each parameter; empty outside all blocks."""
    lists = {name for name, part in classifier.named_modules() if _holds_blocks(part)}
    return {name: _unit(name, lists) for name, _ in classifier.named_parameters()}


def _holds_blocks(part: nn.Module) -> bool:
    """Return whether a module is a list with a member that has weights in more than one layer."""
    if not isinstance(part, nn.ModuleList | nn.Sequential):
        return False
    return any(
        sum(bool(layer._parameters) for layer in member.modules()) > 1 for member in part.children()
    )


def _unit(name: str, lists: set[str]) -> str:
    """Return the path of the block that a parameter belongs to; empty outside all blocks."""
    parts = name.split(".")
    ends = [end for end in range(1, len(parts)) if ".".join(parts[: end - 1]) in lists]
    return ".".join(parts[: ends[:2][-1]]) if ends else ""
