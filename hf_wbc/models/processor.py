"""One image processor for every family: resize the whole square crop, rescale, normalize.

Checkpoints define center crops, shortest edges and crop fractions. A 25 um crop is already framed,
so only the checkpoint's size, interpolation, mean and std are kept, in a ViTImageProcessor.
Training and `pipeline` on the saved folder then see the same pixels.

The backend is torchvision, because a saved processor does not store its backend (a
`ViTImageProcessorPil` is saved as a `ViTImageProcessor`), and loading it selects torchvision.
Pillow's resize occasionally differs by one gray level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.models.processor_checks import (
    Channels,
    check_fields,
    check_steps,
    check_unpadded,
    measure_normalization,
    measure_side,
)
from hf_wbc.records import read_json

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

    The mean and std are those that give the values of the processor itself, which may add an offset
    or normalize twice.

    Raises:
        ValueError: If there is no processor, a field has the wrong type, its image is not square,
            or it does anything but resize, crop, rescale by 1/255 and normalize.
    """
    config = read_json(folder / "config.json", "fetch the checkpoint again")
    if "pretrained_cfg" in config:
        return _timm_preprocessing(config["pretrained_cfg"], folder)
    files = [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]
    if not files:
        raise ValueError(
            f"{folder} has no preprocessor_config.json, so the mean, std and size of the images "
            "that its weights expect are unknown; put one beside its config.json"
        )
    for file in files:
        values = read_json(file, f"{folder} has no usable image processor")
        nested = values.get("image_processor")
        check_fields(nested if isinstance(nested, dict) else values, file)
    return _reduce(_load(folder), folder)


def _load(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # transformers raises any type for fields that it cannot use
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{folder} has no usable image processor: {detail}") from error


def _reduce(processor: Any, folder: Path) -> Preprocessing:
    check_steps(processor, folder)
    factor = getattr(processor, "rescale_factor", None)
    if not getattr(processor, "do_rescale", True) or abs((factor or 0) * 255 - 1) > 1e-6:
        raise ValueError(f"{folder}: its processor does not rescale by 1/255; choose another")
    resample = getattr(processor, "resample", None)
    if resample is None or int(resample) not in _INTERPOLATIONS.values():
        raise ValueError(
            f"{folder}: its processor resizes with Pillow's {resample}, which is not one of "
            f"{', '.join(_INTERPOLATIONS)}; choose another"
        )
    side = measure_side(partial(_values, processor), folder)
    check_unpadded(partial(_values, processor), folder)
    only_values = partial(_values, processor, do_resize=False, do_center_crop=False)
    measured = measure_normalization(only_values, side, folder)
    stated = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    return Preprocessing(side, int(resample), *_as_stated(measured, stated))


def _as_stated(measured: tuple[Channels, Channels], stated: Any) -> tuple[Channels, Channels]:
    """Return the stated mean and std, without the rounding of a measurement, if they agree."""
    mean, std = (np.broadcast_to(values, 3).astype(float) for values in stated)
    if not np.allclose((mean, std), measured, atol=1e-5, rtol=1e-5):
        return measured
    return tuple(mean.tolist()), tuple(std.tolist())


def _values(processor: Any, image: NDArray[np.uint8], **options: bool) -> NDArray[np.float64]:
    """Return what a processor makes of an image (H, W, 3), without the batch dimension."""
    from PIL import Image

    made = processor(images=Image.fromarray(image), return_tensors="pt", **options)
    if "pixel_values" not in made:
        raise ValueError(f"it gives {', '.join(made)} and no pixel_values")
    values: NDArray[np.float64] = made["pixel_values"][0].double().numpy()
    return values


def _timm_preprocessing(config: Any, folder: Path) -> Preprocessing:
    file = folder / "config.json"
    if not isinstance(config, dict):
        raise ValueError(f"{file}: pretrained_cfg is {config!r}; it must be a JSON object")
    names = {"mean": "image_mean", "std": "image_std"}
    given = {names[name]: config[name] for name in names if name in config}
    check_fields({name: _as_list(value) for name, value in given.items()}, file)
    size, interpolation = config.get("input_size"), config.get("interpolation")
    if not (isinstance(size, list | tuple) and len(size) == 3 and size[0] == 3):
        raise ValueError(f"{file}: input_size is {size!r}; it must be [3, height, width]")
    check_fields({"size": list(size[1:])}, file)
    _, height, width = size
    is_known = isinstance(interpolation, str) and interpolation in _INTERPOLATIONS
    if height != width or not is_known:
        raise ValueError(
            f"timm's input {height} x {width}, {interpolation}, is not a square with one "
            f"of {', '.join(_INTERPOLATIONS)}; choose another model"
        )
    steps = _timm_steps(config, file)
    check_unpadded(partial(_apply, steps), folder)
    only_values = [step for step in steps if not _is_geometric(step)]
    measured = measure_normalization(partial(_apply, only_values), height, folder)
    stated = config.get("mean", measured[0]), config.get("std", measured[1])
    return Preprocessing(height, _INTERPOLATIONS[str(interpolation)], *_as_stated(measured, stated))


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _timm_steps(config: dict[str, Any], file: Path) -> Sequence[Any]:
    """Return the steps of timm's transform of a checkpoint."""
    from timm.data import create_transform, resolve_data_config

    try:
        facts = resolve_data_config(pretrained_cfg=config, model=None)
        steps: Sequence[Any] = create_transform(**facts, is_training=False).transforms
    except MemoryError:
        raise
    except Exception as error:  # timm raises any type for fields that it cannot use
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: pretrained_cfg cannot be used ({detail})") from error
    return steps


def _apply(steps: Sequence[Any], image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what timm's steps make of an image (H, W, 3)."""
    from PIL import Image

    found: Any = Image.fromarray(image)
    for step in steps:
        found = step(found)
    made: NDArray[np.float64] = found.double().numpy()
    return made


def _is_geometric(step: Any) -> bool:
    return any(word in type(step).__name__ for word in ("Resize", "Crop", "Pad"))
