"""What is done to every image of a domain alike, in training and at prediction: nothing random.

A model that was trained on treated images is right for treated images only. So the rule by which
a domain is treated is kept with the model, and a domain that it has never seen is measured (its
training images, no labels) and treated by the same rule.

Pixels to the numbers that a model expects: one slope and one offset a channel.

Mean and std are those of one checkpoint for the whole batch, or of each sample's own domain."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from hf_wbc.data.image_statistics import blur, blur_to, color_statistics, sharpness, spectrum
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.table import Table

ChannelValues = Sequence[float] | Tensor
"""A value a channel, (3,), or one a channel of each sample, (B, 3), for intensities in [0, 1]."""
_CACHED_BYTES = 2**20
"""Float images that go together through all operations on a CPU, so that its cache holds them."""


def normalize(pixels: Tensor, mean: ChannelValues, std: ChannelValues) -> Tensor:
    """Pixels (B, H, W, 3) uint8 to (x / 255 - mean) / std, (B, 3, H, W) float32."""
    num, height, width, _ = pixels.shape
    images = torch.empty(num, 3, height, width, device=pixels.device)
    normal = slope_and_offset(mean, std, num).float().to(pixels.device, non_blocking=True)
    slope, offset = normal[:, :, :, None, None].unbind(1)
    for some in cache_sized_slices(pixels):
        part = images[some].copy_(pixels[some].permute(0, 3, 1, 2))
        part.mul_(slope[some]).add_(offset[some])
    return images


def slope_and_offset(mean: ChannelValues, std: ChannelValues, num: int) -> Tensor:
    """What takes 0..255 to normalised intensities, (num, 2, 3) float64, on the CPU."""
    mean, std = (torch.as_tensor(level, dtype=torch.float64, device="cpu") for level in (mean, std))
    return torch.stack([1 / (255 * std), -mean / std], -2).expand(num, 2, 3)


def cache_sized_slices(pixels: Tensor) -> list[slice]:
    """A CPU takes a batch in cache-sized parts, any other device at once."""
    num = len(pixels)
    step = max(1, _CACHED_BYTES // (4 * pixels[0].numel())) if pixels.is_cpu else max(1, num)
    return [slice(first, first + step) for first in range(0, num, step)]


NormalizeBy = Literal["checkpoint", "domain"]
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ImagePreprocessing:
    """Of every image of one domain."""

    mean: Channels
    """Taken from intensities in [0, 1]."""
    std: Channels
    """Divides them then."""
    blur_um: float = 0.0
    """Standard deviation of a Gaussian blur that comes first."""
    flips: bool = False
    """Predictions are means over the image, its two mirror images and its half turn."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class PreprocessingRule:
    """How a domain's treatment follows from its images."""

    normalize_by: NormalizeBy = "checkpoint"
    """Mean and std of the checkpoint, or of the domain's own training images."""
    sharpness_per_um: float | None = None
    """Sharper domains are blurred to this root mean square frequency; None leaves them as is."""
    blur_um: float = 0.0
    """Blur of every domain, after that."""
    flips: bool = False
    """Predictions are means over mirrored images."""

    @property
    def is_plain(self) -> bool:
        """Whether the image processor alone does all there is to do."""
        return self == PLAIN

    def fit(self, table: Table | None, mean: Channels, std: Channels) -> ImagePreprocessing:
        """The treatment of the domain whose training images are `table`.

        `mean` and `std` are the checkpoint's; a rule that measures nothing needs no table.
        """
        blur_um = self.blur_um
        if self.sharpness_per_um is not None:
            assert table is not None
            own = blur_to(spectrum(table), self.sharpness_per_um)
            blur_um = (own**2 + blur_um**2) ** 0.5
        if self.normalize_by == "domain":
            assert table is not None
            colours = color_statistics(table)
            mean, std = colours.mean, colours.std
        return ImagePreprocessing(mean, std, blur_um, self.flips)

    @property
    def needs_images(self) -> bool:
        """Whether a domain's images decide its treatment."""
        return self.normalize_by == "domain" or self.sharpness_per_um is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; ValueError for what another version wrote."""
        renamed = {"normalise_by": "normalize_by"}  # the key of earlier versions
        try:
            return cls(**{renamed.get(name, name): value for name, value in values.items()})
        except TypeError as error:
            raise ValueError(
                f"unknown treatment of images {dict(values)} ({error}); "
                "use the hf_wbc that wrote the model"
            ) from error


PLAIN = PreprocessingRule()
"""The image processor does all there is to do."""


def common_sharpness(tables: Sequence[Table]) -> float:
    """That of the blurriest domain, in cycles per um."""
    return min(sharpness(spectrum(table)) for table in tables)


def pool_preprocessing(treatments: Sequence[ImagePreprocessing]) -> ImagePreprocessing:
    """One mean and std for all, every domain counting alike, and no blur: a processor's share."""
    if len(treatments) == 1:
        return replace(treatments[0], blur_um=0.0)
    means = torch.tensor([t.mean for t in treatments], dtype=torch.float64)
    squares = torch.tensor([t.std for t in treatments], dtype=torch.float64).square() + means**2
    mean = means.mean(0)
    red, green, blue = mean.tolist()
    std_r, std_g, std_b = (squares.mean(0) - mean**2).sqrt().tolist()
    return ImagePreprocessing((red, green, blue), (std_r, std_g, std_b))


def preprocess(pixels: Tensor, treatment: ImagePreprocessing, um: float = CROP_UM) -> Tensor:
    """Pixels (B, H, H, 3) uint8, `um` wide, to what the model takes in, (B, 3, H, H) float32."""
    if not treatment.blur_um:
        return normalize(pixels, treatment.mean, treatment.std)
    images = pixels.permute(0, 3, 1, 2).float()
    width = torch.full((len(images),), treatment.blur_um * images.shape[-1] / um)
    blurred = blur(images, width) / 255
    mean, std = (
        torch.tensor(level, device=blurred.device)[:, None, None]
        for level in (treatment.mean, treatment.std)
    )
    return (blurred - mean) / std
