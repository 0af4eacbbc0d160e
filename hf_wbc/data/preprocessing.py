"""Deterministic preprocessing that all images of a domain share, in training and at prediction.

A model that was trained on preprocessed images requires the same preprocessing at prediction.
Therefore the rule is stored with the model. For an unseen domain, the rule is fitted to that
domain's training images, without labels.

Normalization is one slope and one offset per channel. Mean and standard deviation are those of the
checkpoint or of each sample's own domain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from hf_wbc.data.image_statistics import blur, blur_to, color_statistics, sharpness, spectrum
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.table import Table

ChannelValues = Sequence[float] | Tensor
"""Values per channel, (3,), or per channel of each sample, (B, 3), for intensities in [0, 1]."""
_CACHED_BYTES = 2**20
"""Bytes of float images that a CPU processes at a time, so that they fit in its cache."""


def normalize(pixels: Tensor, mean: ChannelValues, std: ChannelValues) -> Tensor:
    """Scale pixels to [0, 1], subtract the mean, and divide by the standard deviation.

    Args:
        pixels: Images (B, H, W, 3), uint8.
        mean: Mean per channel, (3,) or (B, 3), for intensities in [0, 1].
        std: Standard deviation per channel, (3,) or (B, 3), for intensities in [0, 1].

    Returns:
        Normalized images (B, 3, H, W), float32.
    """
    num, height, width, _ = pixels.shape
    images = torch.empty(num, 3, height, width, device=pixels.device)
    normal = slope_and_offset(mean, std, num).float().to(pixels.device, non_blocking=True)
    slope, offset = normal[:, :, :, None, None].unbind(1)
    for some in cache_sized_slices(pixels):
        part = images[some].copy_(pixels[some].permute(0, 3, 1, 2))
        part.mul_(slope[some]).add_(offset[some])
    return images


def slope_and_offset(mean: ChannelValues, std: ChannelValues, num: int) -> Tensor:
    """Return the slope and offset that normalize 0..255, (num, 2, 3) float64, on the CPU."""
    mean, std = (torch.as_tensor(level, dtype=torch.float64, device="cpu") for level in (mean, std))
    return torch.stack([1 / (255 * std), -mean / std], -2).expand(num, 2, 3)


def cache_sized_slices(pixels: Tensor) -> list[slice]:
    """Split a batch into cache-sized slices on a CPU; other devices take it as a whole."""
    num = len(pixels)
    step = max(1, _CACHED_BYTES // (4 * pixels[0].numel())) if pixels.is_cpu else max(1, num)
    return [slice(first, first + step) for first in range(0, num, step)]


NormalizeBy = Literal["checkpoint", "domain"]
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ImagePreprocessing:
    """Preprocessing of every image of one domain."""

    mean: Channels
    """Mean per channel, for intensities in [0, 1]."""
    std: Channels
    """Standard deviation per channel, for intensities in [0, 1]."""
    blur_um: float = 0.0
    """Standard deviation in um of a Gaussian blur that precedes normalization."""
    flips: bool = False
    """Average predictions over the image, its two mirror images and its half turn."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class PreprocessingRule:
    """Rule that derives the preprocessing of a domain from its images."""

    normalize_by: NormalizeBy = "checkpoint"
    """Take mean and std from the checkpoint or from the domain's training images."""
    sharpness_per_um: float | None = None
    """Blur sharper domains to this root mean square frequency; None disables it."""
    blur_um: float = 0.0
    """Additional blur of every domain, in um."""
    flips: bool = False
    """Average predictions over mirrored images."""

    @property
    def is_plain(self) -> bool:
        """Whether the image processor alone does all preprocessing."""
        return self == PLAIN

    def fit(self, table: Table | None, mean: Channels, std: Channels) -> ImagePreprocessing:
        """Return the preprocessing of a domain.

        Args:
            table: Training images of the domain; may be None unless `needs_images`.
            mean: Mean of the checkpoint.
            std: Standard deviation of the checkpoint.
        """
        blur_um = self.blur_um
        if self.sharpness_per_um is not None:
            assert table is not None
            own = blur_to(spectrum(table), self.sharpness_per_um)
            blur_um = (own**2 + blur_um**2) ** 0.5
        if self.normalize_by == "domain":
            assert table is not None
            colors = color_statistics(table)
            mean, std = colors.mean, colors.std
        return ImagePreprocessing(mean, std, blur_um, self.flips)

    @property
    def needs_images(self) -> bool:
        """Whether the preprocessing of a domain depends on its images."""
        return self.normalize_by == "domain" or self.sharpness_per_um is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a rule from `to_dict`.

        Raises:
            ValueError: If another version of hf_wbc wrote an unknown value.
        """
        renamed = {"normalise_by": "normalize_by"}  # the key of earlier versions
        try:
            return cls(**{renamed.get(name, name): value for name, value in values.items()})
        except TypeError as error:
            raise ValueError(
                f"unknown preprocessing {dict(values)} ({error}); "
                "use the hf_wbc that wrote the model"
            ) from error


PLAIN = PreprocessingRule()
"""The rule under which the image processor does all preprocessing."""


def common_sharpness(tables: Sequence[Table]) -> float:
    """Return the sharpness of the blurriest domain, in cycles per um."""
    return min(sharpness(spectrum(table)) for table in tables)


def pool_preprocessing(treatments: Sequence[ImagePreprocessing]) -> ImagePreprocessing:
    """Return one mean and std for all domains, without blur, as an image processor stores them.

    All domains have equal weight.
    """
    if len(treatments) == 1:
        return replace(treatments[0], blur_um=0.0)
    means = torch.tensor([t.mean for t in treatments], dtype=torch.float64)
    squares = torch.tensor([t.std for t in treatments], dtype=torch.float64).square() + means**2
    mean = means.mean(0)
    red, green, blue = mean.tolist()
    std_r, std_g, std_b = (squares.mean(0) - mean**2).sqrt().tolist()
    return ImagePreprocessing((red, green, blue), (std_r, std_g, std_b))


def preprocess(pixels: Tensor, treatment: ImagePreprocessing, um: float = CROP_UM) -> Tensor:
    """Preprocess a batch of images for the model.

    Args:
        pixels: Images (B, H, H, 3), uint8.
        treatment: Preprocessing of their domain.
        um: Side of the images in um.

    Returns:
        Normalized images (B, 3, H, H), float32.
    """
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
