"""AdamW's parameter groups: who decays, and how fast each block learns.

Layer-wise rates as in BEiT (Bao et al. 2022, arXiv:2106.08254, app. H) and ELECTRA: with N blocks
from input to head, block i learns at lr * layer_decay ** (N - 1 - i), what stands before the first
at lr * layer_decay ** N, the last norm and the head at lr.

A block is found by its name: a parameter's path is cut after its second index into a list of
blocks (stage and block: `encoder.stages.2.layers.5`), or the first where there is one level
(`layers.11`). What lies in a stage outside its blocks (the downsampling) is a block of its own.
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
    """Groups of the parameters that learn, of a classifier or of a method around one.

    Biases, norms, tokens and position embeddings do not decay. What a method owns beside its
    classifier (a discriminator) learns at the full rate. Each parameter is in one group.
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
    """Weights with two dimensions or more, but for tokens, positions, and vectors in disguise."""
    shape = parameter.shape
    in_disguise = len(shape) > 2 and max(shape) == parameter.numel()  # (1, 1, 1, C) of a norm
    return len(shape) > 1 and not in_disguise and not _UNDECAYED.search(name)


def _scales(module: nn.Module, layer_decay: float) -> dict[str, float]:
    """Share of the full rate by parameter name, for the parameters of every classifier inside."""
    scales = {}
    for path, part in module.named_modules():
        if isinstance(part, Classifier):
            prefix = f"{path}." if path else ""
            for name, depth in block_depths(part).items():
                scales[prefix + name] = layer_decay**depth
    return scales


def block_depths(classifier: Classifier) -> dict[str, int]:
    """Number of blocks after each parameter's own: 0 in the last block, in what follows, the head.

    What stands between two blocks counts to the one before it.
    """
    lists = {name for name, part in classifier.named_modules() if _holds_blocks(part)}
    units = {name: _unit(name, lists) for name, _ in classifier.named_parameters()}
    blocks = dict.fromkeys(unit for unit in units.values() if unit)
    number = {block: index for index, block in enumerate(blocks, start=1)}
    depths, passed = {}, 0
    for name, unit in units.items():
        passed = number.get(unit, passed)
        depths[name] = len(number) - passed
    return depths


def _holds_blocks(part: nn.Module) -> bool:
    """Whether it is a list, some member of which has weights of more than one layer."""
    if not isinstance(part, nn.ModuleList | nn.Sequential):
        return False
    return any(
        sum(bool(layer._parameters) for layer in member.modules()) > 1 for member in part.children()
    )


def _unit(name: str, lists: set[str]) -> str:
    """The path of the block that owns a parameter; empty outside all blocks."""
    parts = name.split(".")
    ends = [end for end in range(1, len(parts)) if ".".join(parts[: end - 1]) in lists]
    return ".".join(parts[: ends[:2][-1]]) if ends else ""
