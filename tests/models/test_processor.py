"""One image processor for every family, with identical pixels after saving it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize
from transformers import AutoImageProcessor

from hf_wbc.models import Preprocessing, load_classifier
from hf_wbc.models.processor import make_processor, preprocessing_of, read_preprocessing

Checkpoint = Callable[[str], Path]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
EXPECTED = {
    "vit": Preprocessing(32, 3, *HALF),
    "convnext": Preprocessing(32, 3, *HALF),
    "convnextv2": Preprocessing(32, 3, *HALF),
    "dinov2": Preprocessing(28, 3, (0.48145466, 0.4578275, 0.40821073), HALF[1]),
    "swinv2": Preprocessing(32, 3, *HALF),
    "mobilenet_v2": Preprocessing(32, 2, *HALF),
    "timm_wrapper": Preprocessing(32, 2, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
}


@pytest.fixture
def crop() -> NDArray[np.uint8]:
    """Draw a 25 um crop (250, 250, 3) of smooth colors and noise."""
    y, x = np.mgrid[:250, :250] / 250
    smooth = 255 * np.stack([x, y, (x + y) / 2], axis=-1)
    noise = np.random.default_rng(0).normal(0, 20, smooth.shape)
    return (smooth + noise).clip(0, 255).round().astype(np.uint8)


def pixels(processor: object, crop: NDArray[np.uint8]) -> torch.Tensor:
    values: torch.Tensor = processor(Image.fromarray(crop), return_tensors="pt")["pixel_values"]
    return values


@pytest.mark.parametrize("resample", [2, 3])
def test_crop_is_resized_as_bytes_then_normalized(crop: NDArray[np.uint8], resample: int) -> None:
    mode = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}[resample]
    small = resize(torch.tensor(crop).permute(2, 0, 1), [32, 32], mode, antialias=True)
    assert small.dtype == torch.uint8
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    expected = (small.double() / 255 - mean) / std
    actual = pixels(make_processor(Preprocessing(32, resample, *IMAGENET)), crop)
    torch.testing.assert_close(actual[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_saved_processor_gives_same_pixels(
    crop: NDArray[np.uint8], folder: Path, tmp_path: Path
) -> None:
    processor = load_classifier(str(folder)).processor
    processor.save_pretrained(tmp_path)
    plain = AutoImageProcessor.from_pretrained(tmp_path)
    assert torch.equal(pixels(plain, crop), pixels(processor, crop))
    assert preprocessing_of(plain) == preprocessing_of(processor)


@pytest.mark.parametrize("family", EXPECTED)
def test_preprocessing_is_read_from_checkpoint(family: str, checkpoint: Checkpoint) -> None:
    actual, expected = read_preprocessing(checkpoint(family)), EXPECTED[family]
    if family == "dinov2":  # Bit's processor uses CLIP's std, too
        assert (actual.size, actual.resample, actual.mean) == (28, 3, expected.mean)
    else:
        assert actual == expected


def test_image_border_is_never_cropped(folder: Path, crop: NDArray[np.uint8]) -> None:
    processor = load_classifier(str(folder)).processor
    framed = crop.copy()
    framed[:6] = framed[-6:] = framed[:, :6] = framed[:, -6:] = 0
    differ = (pixels(processor, crop) - pixels(processor, framed)).abs().sum((0, 1)) > 0
    assert differ[0].all() and differ[-1].all() and differ[:, 0].all() and differ[:, -1].all()


def _write(folder: Path, **changes: object) -> Path:
    from transformers import CLIPImageProcessor

    (folder / "config.json").write_text('{"model_type": "vit"}')
    CLIPImageProcessor(**changes).save_pretrained(folder)
    return folder


def test_processor_without_normalization_has_mean_0_and_std_1(tmp_path: Path) -> None:
    actual = read_preprocessing(_write(tmp_path, do_normalize=False))
    assert (actual.mean, actual.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": {"height": 32, "width": 48}}, "is no square"),
        ({"rescale_factor": 1 / 127.5}, "does not rescale by 1/255"),
        ({"do_rescale": False}, "does not rescale by 1/255"),
    ],
)
def test_processor_with_unsupported_steps_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_preprocessing(_write(tmp_path, **changes))


def test_damaged_processor_is_reported(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match="has no usable image processor"):
        read_preprocessing(tmp_path)
