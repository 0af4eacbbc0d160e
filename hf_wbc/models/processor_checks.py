"""Check that a checkpoint's image processor does only what `Preprocessing` can express.

A processor may flip the color channels, add an offset, normalize twice or quantize. Which of its
fields mean what depends on its family, so the processor itself is asked: it processes images of
noise, and what it does to their values is measured.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 4096
"""Largest side of a model's input in pixels."""
_KNOWN_STEPS = frozenset(
    {"resize", "center_crop", "rescale", "normalize", "convert_rgb", "reduce_labels", "pad"}
)
_NEEDED_BY = {
    "size": "do_resize",
    "resample": "do_resize",
    "rescale_factor": "do_rescale",
    "image_mean": "do_normalize",
    "image_std": "do_normalize",
}
"""Fields that must not be null unless a step is switched off."""
_TEXTS = frozenset({"image_processor_type", "feature_extractor_type", "processor_class"})
_TOLERANCE = 1e-4
"""Largest difference of a value from the affine map that was measured, relative to its range."""
_PLANE_TOLERANCE = 0.03
"""Largest difference of a resized ramp from a plane, relative to its range."""
_CHOOSE = "choose another model"

Channels = tuple[float, float, float]
"""A number for each of red, green and blue."""
ProcessImage = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Maps an image (H, W, 3) to values (3, H, W)."""


def check_fields(values: Mapping[str, Any], file: Path) -> None:
    """Check the types of the fields of a processor's JSON file.

    Args:
        values: Content of the file.
        file: The file, for error messages.

    Raises:
        ValueError: Names the field, its value and what it must be.
    """
    for name, value in values.items():
        if value is None:
            needed = _NEEDED_BY.get(name)
            if needed and values.get(needed) is not False:
                raise ValueError(f"{file}: {name} is null; write its value, or {needed}: false")
        elif must_be := _expected(name, value):
            shown = repr(value) if len(repr(value)) < 80 else f"{repr(value)[:77]}..."
            raise ValueError(f"{file}: {name} is {shown}; it must be {must_be}")


def _expected(name: str, value: Any) -> str | None:
    """Return what a field must be if its value is something else."""
    if name.startswith("do_"):
        return None if isinstance(value, bool) else "true or false"
    if name in ("image_mean", "image_std"):
        numbers = value if isinstance(value, list) else [value] * 3
        positive = name == "image_std"
        is_right = len(numbers) == 3 and all(_is_number(each, positive) for each in numbers)
        kind = "positive numbers" if positive else "numbers"
        return None if is_right else f"a list of three {kind}, one for each color channel"
    if name == "rescale_factor":
        return None if _is_number(value, positive=True) else "a positive number, such as 1/255"
    if name == "resample":
        is_right = isinstance(value, int) and not isinstance(value, bool)
        return None if is_right else "Pillow's number of an interpolation: 2 bilinear, 3 bicubic"
    if name in ("size", "crop_size", "pad_size"):
        sides = value.values() if isinstance(value, dict) else value
        sides = sides if isinstance(sides, type({}.values()) | list) else [sides]
        is_right = 0 < len(sides) <= 4 and all(_is_side(side) for side in sides)
        is_right &= not isinstance(value, list) or len(value) == 2
        return None if is_right else f"one or two sides of 1 to {MAX_SIDE} px"
    if name in _TEXTS:
        return None if isinstance(value, str) else "a name"
    return None


def _is_number(value: Any, positive: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is not
    is_finite = is_number and abs(value) <= sys.float_info.max
    return is_finite and (value > 0 or not positive)


def _is_side(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (is_whole and 0 < value <= MAX_SIDE)


def check_steps(processor: Any, folder: Path) -> None:
    """Check that no step is switched on that is unknown here.

    Raises:
        ValueError: Names the steps.
    """
    facts = processor.to_dict()
    steps = {name[3:] for name, value in facts.items() if name.startswith("do_") and value}
    if unknown := sorted(steps - _KNOWN_STEPS):
        raise ValueError(
            f"{folder}: its image processor has the steps {', '.join(unknown)}, which hf_wbc "
            f"cannot express; {_CHOOSE}"
        )


def measure_side(process: ProcessImage, folder: Path) -> int:
    """Return the side in pixels of the image that a processor makes of a square one.

    Raises:
        ValueError: If it makes no square image of three channels, or images of several sizes.
    """
    shape = _call(process, _noise(320, seed=0), folder).shape
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(
            f"{folder}: its image processor makes an array of the shape {shape}, no image of three "
            f"channels; {_CHOOSE}"
        )
    _, height, width = shape
    if height != width:
        raise ValueError(f"{folder}: its processor's size {width}x{height} is no square; {_CHOOSE}")
    if _call(process, _noise(200, seed=0), folder).shape != shape:
        raise ValueError(f"{folder}: its image processor does not resize images; {_CHOOSE}")
    return int(height)


def check_unpadded(process: ProcessImage, folder: Path) -> None:
    """Check that the image fills the model's input: a ramp of gray has to stay a plane.

    Args:
        process: The whole processor; it may crop.
        folder: The checkpoint, for error messages.

    Raises:
        ValueError: If the processor adds a border, of a color or of mirrored pixels.
    """
    x, y = np.meshgrid(*[np.linspace(0, 85, 320)] * 2)
    image = np.repeat(np.rint(x + 2 * y).astype(np.uint8)[..., None], 3, axis=2)
    found = _call(process, image, folder)
    _, height, width = found.shape
    rows, columns = np.mgrid[:height, :width]
    plane = np.stack([columns.ravel(), rows.ravel(), np.ones(height * width)], axis=1)
    values = found.reshape(3, -1).T
    fitted, *_ = np.linalg.lstsq(plane, values, rcond=None)
    if np.abs(plane @ fitted - values).max() > _PLANE_TOLERANCE * np.ptp(values):
        raise ValueError(
            f"{folder}: its image processor pads images (do_pad, pad_size or size_divisor), and "
            f"the cell has to fill the model's input here; {_CHOOSE}"
        )


def measure_normalization(
    process: ProcessImage, side: int, folder: Path
) -> tuple[Channels, Channels]:
    """Return the mean and std in [0, 1] of each channel that give the values of a processor.

    Args:
        process: The processor, without resizing and cropping.
        side: Side of the model's input in pixels.
        folder: The checkpoint, for error messages.

    Raises:
        ValueError: If the values are not an increasing affine map of each channel on its own.
    """
    image = _noise(side, seed=1)
    found = _call(process, image, folder)
    inputs = image.transpose(2, 0, 1) / 255
    if found.shape != inputs.shape:
        raise ValueError(
            f"{folder}: its image processor makes an array of the shape {found.shape} of an image "
            f"of {side}x{side} px; {_CHOOSE}"
        )
    affine = _fit(inputs, found)
    if affine is None:
        if _fit(inputs[::-1], found) is not None:
            raise ValueError(
                f"{folder}: its image processor exchanges red and blue (BGR), and images are RGB "
                f"here; {_CHOOSE}"
            )
        raise _other_values(folder)
    scale, offset = affine
    framed = np.full_like(image, 255)  # a border that a step may cut off
    framed[side // 4 : -(side // 4) or None, side // 4 : -(side // 4) or None] = 40
    again = _call(process, framed, folder)
    expected = scale * (framed.transpose(2, 0, 1) / 255) + offset
    if again.shape != expected.shape or not _is_close(again, expected):
        raise _other_values(folder)
    red, green, blue = (round(float(value), 6) for value in (-offset / scale).ravel())
    std = tuple(round(float(value), 6) for value in (1 / scale).ravel())
    return (red, green, blue), (std[0], std[1], std[2])


def _fit(
    inputs: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and offset (3, 1, 1) of an increasing affine map of each channel, if it is one.

    Args:
        inputs: Image (3, H, W) in [0, 1].
        values: What was made of it (3, H, W).
    """
    x, y = inputs.reshape(3, -1), values.reshape(3, -1)
    centered = x - x.mean(1, keepdims=True)
    scale = (centered * y).sum(1) / (centered**2).sum(1)
    offset = y.mean(1) - scale * x.mean(1)
    expected = scale[:, None] * x + offset[:, None]
    if not (np.isfinite(scale).all() and (scale > 0).all() and _is_close(y, expected)):
        return None
    return scale.reshape(3, 1, 1), offset.reshape(3, 1, 1)


def _is_close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    scale = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(found - expected).max() <= _TOLERANCE * scale)


def _call(process: ProcessImage, image: NDArray[np.uint8], folder: Path) -> NDArray[np.float64]:
    try:
        return process(image)
    except MemoryError:
        raise
    except Exception as error:  # processors raise any type for fields that they cannot use
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{folder}: its image processor does not process an image ({detail}); correct its "
            f"preprocessor_config.json, or {_CHOOSE}"
        ) from error


def _other_values(folder: Path) -> ValueError:
    return ValueError(
        f"{folder}: its image processor changes the values of pixels in another way than to "
        f"rescale and normalize each channel; {_CHOOSE}"
    )


def _noise(side: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
