"""MixStyle: channel statistics mixed between images (Zhou et al. 2021, arXiv:2104.02008).

After each early stage of a CNN, in training only, a map's channel means and deviations become a
random mix of its own and another image's: colour and texture of one laboratory on cells of another.
Partners are drawn from the whole batch, as the paper does where domains are unknown, so that one
source is enough. The early stages are the first half (see `early_stages`), which in a ResNet is the
paper's first two.

The early stages of a CNN, found by what they do to an image.

A stage ends where the map's side is about to shrink, in whatever way a family names its parts.
Stages are counted from a quarter of the image's side on, where a ResNet's first one works."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_wbc.adaptation.method import (
    Fraction,
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    Positive,
    TrainingInfo,
)
from hf_wbc.data.batch import Batch


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


SIDE = 224
"""Of the image that is passed to find the stages; a CNN has the same ones at any side."""


@dataclass(frozen=True)
class Options(MethodOptions):
    alpha: Positive = 0.1
    """Of the Beta distribution of the mix; small is mostly one or the other."""
    p: Fraction = 0.5
    """Probability that a batch is mixed at a stage."""


def mix_style(maps: Tensor, partner: Tensor, own: Tensor, eps: float = 1e-6) -> Tensor:
    """Maps (B, K, H, W) with the statistics of `own` (B,) parts themselves, the rest of partners.

    `partner` (B,) are rows. Statistics have no gradient.
    """
    var, mean = torch.var_mean(maps.detach(), dim=(2, 3), correction=0, keepdim=True)
    std = (var + eps).sqrt()
    own = own.to(maps.dtype)[:, None, None, None]
    new_mean = own * mean + (1 - own) * mean[partner]
    new_std = own * std + (1 - own) * std[partner]
    return (maps - mean) / std * new_std + new_mean


class MixStyle(Method):
    needs = Needs(images=True)
    Options = Options
    paper = "Zhou et al. 2021, arXiv:2104.02008"
    family = "generalisation"
    limitations = (
        "colour and texture tell classes apart, as granules do; and there are no early maps in a "
        "ViT to mix."
    )

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        # A ViT has one, which cuts the patches, and may take images of its own size alone.
        has_maps = sum(isinstance(m, nn.Conv2d) for m in self.classifier.modules()) > 1
        device = next(self.classifier.parameters()).device
        image = torch.zeros(1, 3, SIDE, SIDE, device=device)
        self.stages = early_stages(self.classifier, image) if has_maps else []
        if not self.stages:
            raise ValueError(
                "mixstyle mixes the maps of a CNN's early stages, and this classifier has none; "
                "choose a CNN, mobilenetv2 or convnextv2-atto say, or another --method"
            )

    def fit(self, batch: Batch) -> LossTerms:
        with self._mixing():
            output = self.classifier(batch.source.inputs)
        return {"loss": self.supervised_loss(output, batch)}

    @contextmanager
    def _mixing(self) -> Iterator[None]:
        """Hooked anew for each pass: a lasting hook would be shared by deep copies."""
        with ExitStack() as stack:
            for name in self.stages if self.training else []:
                stage = self.classifier.get_submodule(name)
                stack.callback(stage.register_forward_hook(self._mix).remove)
            yield

    def _mix(self, module: nn.Module, inputs: Any, maps: Tensor) -> Tensor:
        """Draws on the maps' device, so that nothing waits for it."""
        number, device = len(maps), maps.device
        alpha = torch.full((number,), self.options.alpha, device=device)
        own = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        left = torch.rand((), device=device) >= self.options.p
        partner = torch.randperm(number, device=device)
        return mix_style(maps, partner, torch.where(left, 1.0, own))


METHOD = MixStyle
