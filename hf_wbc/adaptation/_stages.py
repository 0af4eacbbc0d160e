"""The early stages of a CNN, found by what they do to an image.

A stage ends where the map's side is about to shrink, in whatever way a family names its parts.
Stages are counted from a quarter of the image's side on, where a ResNet's first one works.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def early_stages(model: nn.Module, image: Tensor) -> list[str]:
    """Names of the modules that end the first half of the stages, for an image (1, 3, H, W).

    None in a ViT.
    """
    sides: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        given = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        if isinstance(out, Tensor) and out.ndim == 4 and given is not None and given.ndim == 4:
            sides[module] = given.shape[-1], out.shape[-1]

    was_training = model.training
    model.eval()
    with ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        model(image)
    model.train(was_training)
    blocks = set(_blocks(model, sides))
    names = {module: name for name, module in model.named_modules()}
    last = {sides[m][1]: names[m] for m in sides if m in blocks}  # in order of computation
    stages = [name for side, name in last.items() if side * 3 < image.shape[-1]]
    return stages[: (len(stages) + 1) // 2]


def _blocks(module: nn.Module, sides: dict[nn.Module, tuple[int, int]]) -> Iterator[nn.Module]:
    """Outermost modules with convolutions that at most halve a map's side."""
    convolves = any(isinstance(m, nn.Conv2d) for m in module.modules())
    given, out = sides.get(module, (0, 0))
    if convolves and out and given <= 2 * out and not isinstance(module, nn.Conv2d):
        yield module
    else:
        for child in module.children():
            yield from _blocks(child, sides)
