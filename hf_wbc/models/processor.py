"""One image processor for every family: resize the whole square crop, rescale, normalize.

Checkpoints define center crops, shortest edges and crop fractions. A 25 um crop is already framed,
so only the checkpoint's size, interpolation, mean and std are kept, in a ViTImageProcessor.
Training and `pipeline` on the saved folder then see the same pixels.

The backend is torchvision, because a saved processor does not store its backend (a
`ViTImageProcessorPil` is saved as a `ViTImageProcessor`), and loading it selects torchvision.
Pillow's resize occasionally differs by one gray level.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BACKEND = "torchvision"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
BICUBIC = 3
_INTERPOLATIONS = {"bilinear": 2, "bicubic": 3}
"""Pillow's codes of the supported interpolations."""


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a square RGB crop."""

    size: int
    """Side of the model's input in pixels."""
    resample: int = BICUBIC
    """Pillow's code of the interpolation: 2 is bilinear, 3 bicubic."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of each channel, in [0, 1]."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Standard deviation of each channel, in [0, 1]."""


def make_processor(preprocessing: Preprocessing) -> Any:
    """Create the image processor, which expects RGB images."""
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor(
        size={"height": preprocessing.size, "width": preprocessing.size},
        resample=preprocessing.resample,
        image_mean=list(preprocessing.mean),
        image_std=list(preprocessing.std),
    )
    assert processor.backend == BACKEND, processor.backend
    return processor


def preprocessing_of(processor: Any) -> Preprocessing:
    """Return the settings of a processor created by `make_processor`."""
    mean, std = processor.image_mean, processor.image_std
    return Preprocessing(processor.size["height"], int(processor.resample), tuple(mean), tuple(std))


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read the settings of the processor in a checkpoint folder; supports timm checkpoints.

    Raises:
        ValueError: If there is no processor, its image is not square, or it does anything but
            resize, crop, rescale by 1/255 and normalize.
    """
    config = json.loads((folder / "config.json").read_text())
    if "pretrained_cfg" in config:
        return _timm_preprocessing(config["pretrained_cfg"])
    if not any((folder / file).is_file() for file in PROCESSOR_FILES):
        raise ValueError(
            f"{folder} has no preprocessor_config.json, so nobody knows the mean, std and size of "
            "the images that its weights expect; put one beside its config.json"
        )
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} has no usable image processor: {error}") from error
    return _reduce(processor, folder)


def _reduce(processor: Any, folder: Path) -> Preprocessing:
    if not getattr(processor, "do_rescale", True) or abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise ValueError(f"{folder}: its processor does not rescale by 1/255; choose another")
    size = dict((processor.do_center_crop and processor.crop_size) or processor.size)
    sides = {side for side in size.values() if side}
    if len(sides) != 1:
        raise ValueError(f"{folder}: its processor's size {size} is no square; choose another")
    resample = int(processor.resample)
    if resample not in _INTERPOLATIONS.values():
        raise ValueError(
            f"{folder}: its processor resizes with Pillow's {resample}, which is not one of "
            f"{', '.join(_INTERPOLATIONS)}; choose another"
        )
    if not processor.do_normalize:
        return Preprocessing(sides.pop(), resample, (0.0,) * 3, (1.0,) * 3)
    mean, std = processor.image_mean, processor.image_std
    return Preprocessing(sides.pop(), resample, tuple(mean), tuple(std))


def _timm_preprocessing(config: dict[str, Any]) -> Preprocessing:
    from timm.data import resolve_data_config

    facts = resolve_data_config(pretrained_cfg=config, model=None)
    _, height, width = facts["input_size"]
    if height != width or facts["interpolation"] not in _INTERPOLATIONS:
        raise ValueError(
            f"timm's input {height} x {width}, {facts['interpolation']}, is not a square with one "
            f"of {', '.join(_INTERPOLATIONS)}; choose another model"
        )
    resample = _INTERPOLATIONS[facts["interpolation"]]
    return Preprocessing(height, resample, tuple(facts["mean"]), tuple(facts["std"]))
