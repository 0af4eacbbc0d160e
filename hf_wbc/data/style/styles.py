"""How source images go a random part of the way to a target's style, a batch at a time.

A style is measured once, without a label, and what moves a sample is looked up by its domain and
its drawn target: a map, a table, or another image. What is beyond black and white is cut off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_wbc.data.draws import draw_part, draw_target
from hf_wbc.data.style.fourier import swap_amplitudes
from hf_wbc.data.style.histogram import count_levels, lead_levels, match_levels
from hf_wbc.data.style.macenko import find_stains, lead_stains, macenko
from hf_wbc.data.style.reinhard import lab_statistics, lead_lab, reinhard
from hf_wbc.data.style.samples import Colours, Map, colour_sample, maps_between
from hf_wbc.data.table import Table, concatenate

_WHITE = 255.0
Restyle = Callable[[Tensor, Tensor], Tensor]
"""Images (B, 3, H, W) of 0..255 and what moves them (B, ...) to images in the target's style."""
Lookup = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What moves the samples (B, ...), of their domains, targets and a uniform number each (B,)."""


@dataclass(frozen=True)
class Way:
    """From the images of a batch to their targets' style."""

    restyle: Restyle
    values: Tensor
    """What moves each sample (B, ...)."""
    part: Tensor
    """Of the way that each sample goes (B, 1, 1, 1)."""

    def take(self, images: Tensor, some: slice) -> Tensor:
        """Images (b, 3, H, W), a slice of the batch, part of the way; straight, pixel by pixel."""
        end = self.restyle(images, self.values[some]).clamp(0, _WHITE)
        return images.lerp(end, self.part[some])


@dataclass(frozen=True)
class Style:
    """A way from every source domain to every target."""

    restyle: Restyle
    lookup: Lookup
    num_targets: int

    def draw(self, changes: Tensor, domains: Tensor, strength: float, device: torch.device) -> Way:
        """The way of samples by the rows of `draw_changes`, their domains (B,) in hand."""
        which, rest = draw_target(changes, self.num_targets)
        values = self.lookup(domains, which, rest)
        part = draw_part(changes, strength).float()[:, None, None, None]
        values, part = (
            (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
            for x in (values, part)
        )
        return Way(self.restyle, values, part)


def make_style(name: str, source: Table, targets: Sequence[Table]) -> Style:
    """Of an `Augmentation.target_style` other than "colours", from the training images."""
    if name == "fourier":
        return Style(_swap, _random_images(targets), len(targets))
    measure, lead, restyle = _BY_MAPS[name]
    maps = maps_between(source, targets, lambda *domain: measure(colour_sample(*domain)), lead)
    maps = maps.float()
    return Style(restyle, lambda domains, which, _: maps[domains, which], len(targets))


def _random_images(targets: Sequence[Table]) -> Lookup:
    """Looks up pixels (B, H, W, 3) uint8 of a random image of each sample's target."""
    table, lengths = concatenate(targets), torch.tensor([len(target) for target in targets])
    firsts = lengths.cumsum(0) - lengths

    def lookup(_: Tensor, which: Tensor, rest: Tensor) -> Tensor:
        rows = firsts[which] + (rest * lengths[which]).long()
        return table.batch(rows.numpy())

    return lookup


def _swap(images: Tensor, pixels: Tensor) -> Tensor:
    return swap_amplitudes(images, pixels.permute(0, 3, 1, 2).float())


_BY_MAPS: dict[str, tuple[Callable[[Colours], Any], Callable[[Any, Any], Map], Restyle]] = {
    "reinhard": (lab_statistics, lead_lab, reinhard),
    "macenko": (find_stains, lead_stains, macenko),
    "histogram": (count_levels, lead_levels, match_levels),
}
"""What is measured of a domain's colours, what leads from one to another, and what obeys that."""
