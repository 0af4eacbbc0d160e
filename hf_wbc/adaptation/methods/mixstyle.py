"""MixStyle: mix channel statistics between images (Zhou et al. 2021, arXiv:2104.02008).

During training, after each early stage of a CNN, a feature map's channel means and standard
deviations are replaced by a random mix of its own and another image's: color and texture of one
laboratory on cells of another. Partners are drawn from the whole batch, as in the paper where
domains are unknown, so that a single source suffices. The early stages are the first half (see
`early_stages`), which in a ResNet are the paper's first two.
"""

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
    """Return the names of the modules that end the first half of a CNN's stages.

    Stages are found by what they do to an image, not by name: a stage ends where the side of the
    feature map is about to shrink. They are counted from a quarter of the image's side, where the
    first stage of a ResNet operates.

    Args:
        model: Any image model; a ViT has no stages.
        image: An image to pass through the model (1, 3, H, W).
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
    """Yield the outermost modules with convolutions that at most halve a map's side."""
    convolves = any(isinstance(m, nn.Conv2d) for m in module.modules())
    given, out = sides.get(module, (0, 0))
    if convolves and out and given <= 2 * out and not isinstance(module, nn.Conv2d):
        yield module
    else:
        for child in module.children():
            yield from _blocks(child, sides)


SIDE = 224
"""Side in pixels of the image used to find the stages, which do not depend on it."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of MixStyle."""

    alpha: Positive = 0.1
    """Parameter of the Beta distribution of the mix; small values mostly pick one of the two."""
    p: Fraction = 0.5
    """Probability that a batch is mixed after a stage."""


def mix_style(maps: Tensor, partner: Tensor, own: Tensor, eps: float = 1e-6) -> Tensor:
    """Return feature maps with mixed channel statistics (Zhou et al. 2021).

    Args:
        maps: Feature maps (B, K, H, W).
        partner: Row of each map's partner (B,), int64.
        own: Weight of each map's own statistics (B,), in [0, 1]; its partner's get the rest.
        eps: Added to variances.

    Returns:
        Feature maps (B, K, H, W); no gradient flows through the statistics.
    """
    var, mean = torch.var_mean(maps.detach(), dim=(2, 3), correction=0, keepdim=True)
    std = (var + eps).sqrt()
    own = own.to(maps.dtype)[:, None, None, None]
    new_mean = own * mean + (1 - own) * mean[partner]
    new_std = own * std + (1 - own) * std[partner]
    return (maps - mean) / std * new_std + new_mean


class MixStyle(Method):
    """Mixes feature statistics of images in the early stages of a CNN."""

    needs = Needs(images=True)
    Options = Options
    paper = "Zhou et al. 2021, arXiv:2104.02008"
    family = "generalization"
    limitations = (
        "color and texture distinguish classes, as granules do; a ViT has no early feature maps "
        "to mix."
    )

    def setup(self, info: TrainingInfo) -> None:
        """Find the early stages."""
        super().setup(info)
        # A ViT has one, the patch embedding, and may only accept images of its own size.
        has_maps = sum(isinstance(m, nn.Conv2d) for m in self.classifier.modules()) > 1
        device = next(self.classifier.parameters()).device
        image = torch.zeros(1, 3, SIDE, SIDE, device=device)
        self.stages = early_stages(self.classifier, image) if has_maps else []
        if not self.stages:
            raise ValueError(
                "mixstyle mixes the feature maps of a CNN's early stages, but this classifier has "
                "none; choose a CNN, e.g. mobilenetv2 or convnextv2-atto, or another --method"
            )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss, with mixed statistics in training mode."""
        with self._mixing():
            output = self.classifier(batch.source.inputs)
        return {"loss": self.supervised_loss(output, batch)}

    @contextmanager
    def _mixing(self) -> Iterator[None]:
        """Mix statistics during one pass; a permanent hook would be shared by deep copies."""
        with ExitStack() as stack:
            for name in self.stages if self.training else []:
                stage = self.classifier.get_submodule(name)
                stack.callback(stage.register_forward_hook(self._mix).remove)
            yield

    def _mix(self, module: nn.Module, inputs: Any, maps: Tensor) -> Tensor:
        """Forward hook; draws on the maps' device to avoid a synchronization."""
        number, device = len(maps), maps.device
        alpha = torch.full((number,), self.options.alpha, device=device)
        own = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        left = torch.rand((), device=device) >= self.options.p
        partner = torch.randperm(number, device=device)
        return mix_style(maps, partner, torch.where(left, 1.0, own))


METHOD = MixStyle
