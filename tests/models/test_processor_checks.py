"""Pixels are those of the checkpoint's own image processor, or the checkpoint is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor

from hf_wbc.models import load_classifier
from hf_wbc.models.processor import make_processor, read_preprocessing

SAME = {
    "beit": "BeitImageProcessor",
    "clip": "CLIPImageProcessor",
    "convnext": "ConvNextImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessor",
    "efficientnet": "EfficientNetImageProcessor",
    "levit": "LevitImageProcessor",
    "mobilenet_v2": "MobileNetV2ImageProcessor",
    "perceiver": "PerceiverImageProcessor",
    "poolformer": "PoolFormerImageProcessor",
    "segformer": "SegformerImageProcessor",
    "siglip": "SiglipImageProcessor",
    "vit": "ViTImageProcessor",
}
REFUSED = {
    "mobilevit": ("MobileViTImageProcessor", {}, "the steps flip_channel_order"),
    "pp_lcnet": ("PPLCNetImageProcessor", {}, "exchanges red and blue"),
    "imagegpt": (
        "ImageGPTImageProcessor",
        {"clusters": [[-1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], "size": {"height": 32, "width": 32}},
        "color_quantize|no pixel_values",
    ),
    "siglip2": ("Siglip2ImageProcessor", {}, "no image of three channels"),
    "efficientnet": (
        "EfficientNetImageProcessor",
        {"rescale_offset": True, "rescale_factor": 1 / 127.5},
        "does not rescale by 1/255",
    ),
}

SQUARE_96 = {"height": 96, "width": 96}


def write(folder: Path, family: str, name: str, **changes: Any) -> Path:
    """Write a checkpoint without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    getattr(transformers, name)(**changes).save_pretrained(folder)
    return folder


def edit(folder: Path, **changes: Any) -> Path:
    """Change fields of the processor's file."""
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def assert_same_pixels(folder: Path) -> None:
    """Compare values for an image of the model's own size."""
    preprocessing = read_preprocessing(folder)
    side = preprocessing.size
    image = Image.fromarray(np.random.default_rng(7).integers(0, 256, (side, side, 3), np.uint8))
    own = AutoImageProcessor.from_pretrained(folder)
    whole = own(image, return_tensors="pt")["pixel_values"]
    assert whole.shape == (1, 3, side, side)
    expected = own(image, return_tensors="pt", do_resize=False, do_center_crop=False)
    found = make_processor(preprocessing)(image, return_tensors="pt")
    torch.testing.assert_close(
        found["pixel_values"], expected["pixel_values"], atol=2e-5, rtol=2e-5
    )


@pytest.mark.parametrize("family", SAME)
def test_pixels_match_checkpoints_own_processor(family: str, tmp_path: Path) -> None:
    assert_same_pixels(write(tmp_path, family, SAME[family]))


@pytest.mark.parametrize(
    ("family", "name", "changes"),
    [
        ("efficientnet", "EfficientNetImageProcessor", {"include_top": False}),
        ("efficientnet", "EfficientNetImageProcessor", {"rescale_offset": True}),
        (
            "mobilevit",
            "MobileViTImageProcessor",
            {"do_flip_channel_order": False, "size": {"shortest_edge": 288}},
        ),
        ("vit", "ViTImageProcessor", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.4, 0.3]}),
        ("vit", "ViTImageProcessor", {"do_normalize": False}),
    ],
)
def test_steps_expressible_by_normalization_are_folded_in(
    family: str, name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    assert_same_pixels(write(tmp_path, family, name, **changes))


@pytest.mark.parametrize("family", REFUSED)
def test_unsupported_value_changes_are_refused(family: str, tmp_path: Path) -> None:
    name, changes, message = REFUSED[family]
    with pytest.raises(ValueError, match=message):
        read_preprocessing(write(tmp_path, family, name, **changes))


PADS = {
    "to a larger size": ("Sam", {"size": {"longest_edge": 64}, "pad_size": SQUARE_96}),
    "by less than a tenth": ("Sam", {"size": {"longest_edge": 90}, "pad_size": SQUARE_96}),
    "to a crop larger than the image": ("CLIP", {"size": {"shortest_edge": 64}, "crop_size": 96}),
    "with mirrored pixels": ("ZoeDepth", {"size": SQUARE_96, "ensure_multiple_of": 1}),
    "without saying do_pad": (
        "EfficientNet",
        {"size": {"height": 64, "width": 64}, "crop_size": SQUARE_96, "do_center_crop": True},
    ),
}


@pytest.mark.parametrize("how", PADS)
def test_processor_that_pads_is_refused_with_that_reason(how: str, tmp_path: Path) -> None:
    name, changes = PADS[how]
    folder = write(tmp_path, "vit", f"{name}ImageProcessor", **changes)
    with pytest.raises(ValueError, match="pads images"):
        read_preprocessing(folder)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Sam", {"size": {"longest_edge": 96}, "pad_size": SQUARE_96}),
        ("Vilt", {"size": {"shortest_edge": 96}}),
        ("Janus", {"size": SQUARE_96}),
        ("ConvNext", {"size": {"shortest_edge": 96}}),
    ],
)
def test_padding_that_leaves_a_square_unchanged_is_accepted(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    assert read_preprocessing(write(tmp_path, "vit", f"{name}ImageProcessor", **changes)).size == 96


@pytest.mark.parametrize("step", ["do_equalize", "do_crop_margin", "do_grayscale"])
def test_unknown_step_is_refused_by_name(step: str, tmp_path: Path) -> None:
    folder = edit(write(tmp_path, "vit", "ViTImageProcessor"), **{step: True})
    with pytest.raises(ValueError, match=f"the steps {step[3:]}"):
        read_preprocessing(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", None, "size is null; write its value, or do_resize: false"),
        ("size", "224", "size is '224'; it must be one or two sides"),
        ("size", [3, 224, 224], "it must be one or two sides of 1 to 4096 px"),
        ("size", {"height": 10**9, "width": 10**9}, "one or two sides of 1 to 4096 px"),
        ("size", {"height": -224, "width": -224}, "one or two sides"),
        ("size", {}, "one or two sides"),
        ("size", 224.5, "one or two sides"),
        ("resample", None, "resample is null"),
        ("resample", "bicubic", "resample is 'bicubic'; it must be Pillow's number"),
        ("resample", [3], "resample is .3.; it must be Pillow's number"),
        ("resample", 1, "resizes with Pillow's 1"),
        ("image_mean", None, "image_mean is null; write its value, or do_normalize: false"),
        ("image_mean", "0.5,0.5,0.5", "it must be a list of three numbers"),
        ("image_mean", [0.5], "it must be a list of three numbers"),
        ("image_mean", [0.5, "0.5", 0.5], "it must be a list of three numbers"),
        ("image_std", [0.5, 0.5, 0], "it must be a list of three positive numbers"),
        ("image_std", 10**400, "it must be a list of three positive numbers"),
        ("rescale_factor", 10**400, "it must be a positive number"),
        ("image_std", [0.5, 0.5, float("nan")], "it must be a list of three positive numbers"),
        ("rescale_factor", "1/255", "it must be a positive number"),
        ("rescale_factor", [0.1], "it must be a positive number"),
        ("rescale_factor", None, "rescale_factor is null"),
        ("do_normalize", "false", "do_normalize is 'false'; it must be true or false"),
        ("do_rescale", [True], "it must be true or false"),
        ("image_processor_type", ["ViTImageProcessor"], "it must be a name"),
        ("image_processor_type", "NoSuchProcessor", "has no usable image processor"),
    ],
)
def test_field_of_wrong_type_is_reported(
    field: str, value: Any, message: str, tmp_path: Path
) -> None:
    folder = edit(write(tmp_path, "vit", "ViTImageProcessor"), **{field: value})
    with pytest.raises(ValueError, match=message) as caught:
        read_preprocessing(folder)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("value", [32, [32, 32], {"shortest_edge": 32}])
def test_sizes_in_any_format_are_read(value: Any, tmp_path: Path) -> None:
    folder = edit(write(tmp_path, "clip", "CLIPImageProcessor"), size=value, do_center_crop=False)
    assert read_preprocessing(folder).size == 32


def test_processor_that_does_not_resize_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not resize"):
        read_preprocessing(edit(write(tmp_path, "vit", "ViTImageProcessor"), do_resize=False))


@pytest.mark.parametrize("text", ["[]", '"vit"', "null", "[" * 100_000])
def test_json_file_without_an_object_is_reported(text: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "vit", "ViTImageProcessor")
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):
        read_preprocessing(folder)


@pytest.fixture(scope="module")
def saved_by_timm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small network as timm's `push_to_hf_hub` does."""
    import timm
    from timm.models import save_for_hf

    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    arguments = {"num_classes": 5, "in_chans": 3}
    model = timm.create_model("test_resnet.r160_in1k", **arguments)
    save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    return folder


def changed(folder: Path, out: Path, change: dict[str, Any]) -> Path:
    """Copy a checkpoint with changes in its config.json; `pretrained_cfg` is merged."""
    import shutil

    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    inner = change.get("pretrained_cfg")
    merged = {**config["pretrained_cfg"], **inner} if isinstance(inner, dict) else inner
    config |= change | ({"pretrained_cfg": merged} if "pretrained_cfg" in change else {})
    (out / "config.json").write_text(json.dumps(config))
    return out


def test_checkpoint_saved_by_timm_loads(saved_by_timm: Path) -> None:
    loaded = load_classifier(str(saved_by_timm))
    config = json.loads((saved_by_timm / "config.json").read_text())["pretrained_cfg"]
    assert loaded.preprocessing.size == config["input_size"][1]
    assert loaded.preprocessing.mean == tuple(config["mean"])
    assert loaded.classifier.head.out_features == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrained_cfg": None}, "pretrained_cfg is None"),
        ({"pretrained_cfg": {"mean": None}}, "image_mean is null"),
        ({"pretrained_cfg": {"std": "imagenet"}}, "image_std is 'imagenet'"),
        ({"pretrained_cfg": {"std": [0.2, 0.2, 0.0]}}, "list of three positive numbers"),
        ({"pretrained_cfg": {"input_size": None}}, "input_size is None"),
        ({"pretrained_cfg": {"input_size": [1, 160, 160]}}, r"must be \[3, height, width\]"),
        ({"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}, "more than the 200,000 of any"),
        ({"pretrained_cfg": {"crop_mode": "border", "crop_pct": 1.5}}, "pads images"),
        ({"pretrained_cfg": {"interpolation": None}}, "is not a square with one"),
        ({"pretrained_cfg": {"interpolation": ["bicubic"]}}, "is not a square with one"),
        ({"model_args": "num_classes"}, "model_args is 'num_classes'"),
        ({"model_args": {"in_chans": 1}}, "images of 1 channels"),
        ({"model_args": {"checkpoint_path": "evil.pth"}}, "checkpoint_path, which makes timm read"),
        ({"architecture": "hf-hub:someone/else"}, "which names no timm model"),
    ],
)
def test_invalid_timm_checkpoint_is_reported(
    change: dict[str, Any], message: str, saved_by_timm: Path, tmp_path: Path
) -> None:
    folder = changed(saved_by_timm, tmp_path / "copy", change)
    with pytest.raises(ValueError, match=message):
        load_classifier(str(folder))
