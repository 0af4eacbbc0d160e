"""Options of prediction, shared by the command line, the Python API and the batch loop."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["PrecisionName", "PredictOptions", "RuntimeName", "Split"]

Split = Literal["train", "validation", "test"]
RuntimeName = Literal["auto", "torch", "compile", "openvino", "onnx"]
PrecisionName = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class PredictOptions:
    """How images are read and which runtime computes."""

    um_per_px: float | None = None
    """Scale of a folder of images in um per pixel."""
    estimate_scale: bool = False
    """Estimate the scale of a folder of images from its red cells (7.2 um), else its nuclei."""
    cell_fills_frame: bool = False
    """Images are cropped around their cells, so their scale does not matter."""
    center_only: bool = False
    """Take the center of pictures wider than 42 um as one cell each, instead of all their cells."""
    layout: str | None = None
    """Folders of the images, such as `{patient}/Unsigned slides`; adds the column patient."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    """Splits of a prepared dataset to predict."""
    follow_links: bool = False
    """Follow links that leave the folder of images; links within it are always followed."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and name them."""
    runtime: RuntimeName = "auto"
    """What computes: the fastest installed runtime that agrees with torch, or one by name."""
    precision: PrecisionName = "fp32"
    """bf16 is faster on some processors and changes a few predictions; the effect is measured."""
    test_time_flips: bool = False
    """Average predictions over the image, its mirror images and its half turn: four times the cost,
    whatever the model's own rule is."""
    num_proc: int | None = None
    """Number of processes that decode images; all cores by default."""
