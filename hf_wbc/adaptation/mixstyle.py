"""MixStyle: channel statistics mixed between images (Zhou et al. 2021, arXiv:2104.02008).

After each early stage of a CNN, in training only, a map's channel means and deviations become a
random mix of its own and another image's: colour and texture of one laboratory on cells of another.
Partners are drawn from the whole batch, as the paper does where domains are unknown, so that one
source is enough. The early stages are the first half (see `early_stages`), which in a ResNet is the
paper's first two.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_wbc.adaptation._contract import Method, Needs, Setting, Terms
from hf_wbc.adaptation._options import Checked, Fraction, Positive
from hf_wbc.adaptation._stages import early_stages
from hf_wbc.data.batch import Batch

SIDE = 224
"""Of the image that is passed to find the stages; a CNN has the same ones at any side."""


@dataclass(frozen=True)
class Options(Checked):
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
    fails_when = (
        "colour and texture tell classes apart, as granules do; and there are no early maps in a "
        "ViT to mix."
    )

    def setup(self, setting: Setting) -> None:
        super().setup(setting)
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

    def fit(self, batch: Batch) -> Terms:
        with self._mixing():
            output = self.classifier(batch.source.inputs)
        return {"loss": self.classify(output, batch)}

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
