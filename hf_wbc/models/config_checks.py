"""Refuse model folders with absurd settings before they take memory.

A folder may come from anyone. The numbers in its config.json decide how much memory transformers
allocates, for example for a dictionary of a billion labels or for position embeddings of an image
100,000 px wide.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_wbc.models.processor import Preprocessing
from hf_wbc.models.utils import quiet_transformers

__all__ = [
    "check_config", "check_image_size", "check_memory", "check_preprocessing", "check_weights",
]  # fmt: skip

MAX_CONFIG_BYTES = 16 * 2**20
"""Largest config.json; the labels of ImageNet-21k take 1 MB."""
MAX_DEPTH = 20
"""Most levels of nested lists and dictionaries."""
MAX_LABELS = 100_000
MAX_IMAGE_PX = 2048
"""Largest side of a model's input; common ones are 224 to 518."""
MAX_TOKENS = 16_384
"""Most patches of an image: attention takes memory for each pair of them."""
MAX_SIZE = 200_000
"""Largest width of a layer, kernel or window."""
MAX_LAYERS = 2_000
"""Most layers of a model, those of all members together; each takes milliseconds to build."""
MAX_MEMBERS = 100
"""Most models in an ensemble."""
MAX_SPARE_PARAMETERS = 100_000_000
"""Parameters that a model may have beyond those in its files, such as a new head."""
MAX_FRESH_PARAMETERS = 2_000_000_000
"""Most parameters of a model with random weights."""
MIN_STD = 1e-4
"""Smallest standard deviation of a channel for intensities in [0, 1]."""
_SIZE = re.compile(
    r"(^|_)(size|sizes|layers|heads|dim|dims|depth|depths|width|channels|features|blocks|stride|"
    r"strides|kernel|groups|tokens)$|^num_"
)
_DEPTH = re.compile(r"(^|_)(layers|depth|depths|blocks|repeats|depth_coefficient)$")
"""Names of settings that say how many layers there are."""
_LABELS = frozenset({"id2label", "label2id"})
_LABEL_NUMBERS = ("num_labels", "num_classes")
_REMEDY = "take the original folder, or another model"


def check_config(path: Path) -> None:
    """Check the numbers of a config.json before transformers acts on them.

    Raises:
        ValueError: If it is too large, no JSON object, too deeply nested, or has a size that no
            image classifier has; the message names the setting and its value.
    """
    if (num_bytes := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} has {num_bytes:,} bytes, too many for a configuration; {_REMEDY}")
    try:
        facts = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply; {_REMEDY}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged, no JSON text ({error}); {_REMEDY}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} holds no settings; {_REMEDY}")
    num_layers: float = 0
    for names, value in _numbers(facts, ()):
        if reason := _reason(names, value):
            raise ValueError(f"{path}: {'.'.join(names)} is {value:,}, {reason}; {_REMEDY}")
        if names and _DEPTH.search(names[-1]) and not _LABELS & set(names):
            num_layers += max(value, 0)
    if num_layers > MAX_LAYERS:
        raise ValueError(
            f"{path} describes {num_layers:,} layers, more than the {MAX_LAYERS:,} of any image "
            f"classifier; {_REMEDY}"
        )
    if _num_members(facts, path) > MAX_MEMBERS:
        raise ValueError(f"{path} has more than {MAX_MEMBERS} members; {_REMEDY}")
    for name in ("id2label", "label2id"):
        if isinstance(labels := facts.get(name), dict) and len(labels) > MAX_LABELS:
            raise ValueError(f"{path}: {name} has {len(labels):,} labels; {_REMEDY}")
    if not _are_class_ids(facts.get("id2label")):
        raise ValueError(f"{path}: id2label does not number its labels from 0; {_REMEDY}")
    sizes = facts.get("image_size")
    for side in sizes if isinstance(sizes, list) else [sizes]:
        if isinstance(side, int):
            check_image_size(str(path), side, facts.get("patch_size"))


def check_image_size(name: str, size: int, patch: Any = None) -> None:
    """ValueError if images of `size` px are no input of a classifier of cells."""
    if not 1 <= size <= MAX_IMAGE_PX:
        raise ValueError(
            f"{name}: the image size is {size:,} px; it must lie within 1 and {MAX_IMAGE_PX:,}"
        )
    if isinstance(patch, int) and (patch < 1 or (size // patch) ** 2 > MAX_TOKENS):
        raise ValueError(
            f"{name}: patches of {patch:,} px divide an image of {size:,} px into too many parts; "
            f"at most {MAX_TOKENS:,} are supported"
        )


def check_preprocessing(name: str, preprocessing: Preprocessing) -> None:
    """ValueError if an image processor's size, mean or std cannot be meant."""
    check_image_size(name, preprocessing.size)
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"{name}: mean {mean} and std {std} are not of three channels; {_REMEDY}")
    if not all(isinstance(level, int | float) and -10 <= level <= 10 for level in mean):
        raise ValueError(f"{name}: the processor's mean is {mean}, for values in [0, 1]; {_REMEDY}")
    if not all(isinstance(level, int | float) and MIN_STD <= level <= 1e3 for level in std):
        raise ValueError(
            f"{name}: the processor's std is {std}; it must be positive, as images are divided by "
            f"it; {_REMEDY}"
        )


def check_memory(name: str, config: Any, folder: Path | None) -> None:
    """Count a model's parameters without allocating them.

    Args:
        name: Name of the model for error messages.
        config: Its transformers configuration.
        folder: Folder of its weights; None for random weights.

    Raises:
        ValueError: If it has far more parameters than its files hold, or cannot be built.
    """
    from transformers import AutoModelForImageClassification

    at_most = MAX_FRESH_PARAMETERS
    if folder is not None:
        at_most = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        at_most += MAX_SPARE_PARAMETERS
    if config.model_type == "timm_wrapper":  # timm knows the sizes
        return
    try:
        with torch.device("meta"), quiet_transformers():
            model = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except ImportError:
        return  # reported when it is built
    except Exception as error:  # families do not check their settings
        detail = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{name} does not load as an image classifier: {detail}") from error
    held = [*model.parameters(), *model.buffers()]
    if (num := sum(each.numel() for each in held)) > at_most:
        raise ValueError(
            f"{name}: its config.json describes {num:,} weights ({4 * num / 2**30:,.0f} GB), more "
            f"than the {at_most:,} that are possible; {_REMEDY}"
        )


def check_weights(name: str, model: nn.Module) -> None:
    """ValueError if any weight is not a finite number."""
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value.sum()):
            if torch.isfinite(value).all():  # only the sum is too large
                continue
            raise ValueError(f"{name}: the weights {key} hold NaN or infinity; {_REMEDY}")


def _numbers(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int | float]]:
    """Yield all numbers of a configuration with the names that lead to them."""
    if len(names) > MAX_DEPTH:
        raise ValueError(f"{'.'.join(names[:3])} and so on is nested too deeply; {_REMEDY}")
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _numbers(each, (*names, str(name)[:80]))
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each, (*names, ""))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield tuple(name for name in names if name), value


def _num_members(facts: dict[str, Any], path: Path) -> int:
    """Return how many models an ensemble has, those of ensembles in it included."""
    members = facts.get("members", [])
    if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
        raise ValueError(f"{path}: members is no list of configurations; {_REMEDY}")
    return len(members) + sum(_num_members(each, path) for each in members)


def _reason(names: tuple[str, ...], value: int | float) -> str | None:
    """What is wrong with a number in a configuration; None if nothing is."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "which is not a number to compute with"
    name = names[-1] if names else ""
    if name in _LABEL_NUMBERS and not 0 <= value <= MAX_LABELS:
        return "no number of classes"
    if _SIZE.search(name) and names[0] not in ("label2id", "id2label"):
        if value < 0:
            return "and a size cannot be negative"
        if value > MAX_SIZE:
            return f"more than the {MAX_SIZE:,} of any image classifier"
    return None


def _are_class_ids(labels: Any) -> bool:
    if labels is None:
        return True
    if not isinstance(labels, dict):
        return False
    try:
        return sorted(map(int, labels)) == list(range(len(labels)))
    except ValueError:
        return False
