"""Tiny random checkpoints of every family, each with foreign labels and its own processor."""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_wbc.models import Classifier, load_classifier

FOREIGN = ("cat", "dog", "horse")
SIZES = {"dinov2": 28, "dinov2_with_registers": 28}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    },
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]},
    "convnextv2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]},
    "dinov2": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 42,
        "patch_size": 14,
    },
    "dinov2_with_registers": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 42,
        "patch_size": 14,
    },
    "swinv2": {
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [2, 2],
        "window_size": 4,
        "image_size": 32,
        "patch_size": 4,
    },
    "resnet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 2, 1, 1],
        "layer_type": "basic",
    },
    "mobilenet_v2": {"depth_multiplier": 0.1, "finegrained_output": False},
    "timm_wrapper": {"architecture": "resnet10t", "model_args": {"channels": [8, 8, 16, 16]}},
}
FAMILIES = tuple(CONFIGS)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Use one thread: fastest for tiny models, and leaves the other cores free."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's checkpoint, written once; skip uninstalled families."""
    root = tmp_path_factory.mktemp("checkpoints")

    def made(family: str) -> Path:
        if family == "timm_wrapper" and importlib.util.find_spec("timm") is None:
            pytest.skip("timm is not installed: pip install 'hf_wbc[timm]'")
        if not (root / family).is_dir():
            write_checkpoint(root / family, family)
        return root / family

    return made


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Return each family in turn."""
    name: str = request.param
    return name


@pytest.fixture
def folder(family: str, checkpoint: Callable[[str], Path]) -> Path:
    """Return each family's checkpoint in turn."""
    return checkpoint(family)


@pytest.fixture(scope="session")
def pristine() -> dict[Path, Classifier]:
    """Cache loaded classifiers for tests to copy."""
    return {}


@pytest.fixture
def classifier(folder: Path, pristine: dict[Path, Classifier]) -> Classifier:
    """Return each family's classifier in turn, in evaluation mode; tests may modify the copy."""
    if folder not in pristine:
        pristine[folder] = load_classifier(str(folder)).classifier
    return copy.deepcopy(pristine[folder])


@pytest.fixture
def images(family: str) -> torch.Tensor:
    """Return normalized noise (2, 3, H, W) of the family's size."""
    return noise(family)


@pytest.fixture(scope="session")
def draw_images() -> Callable[[str], torch.Tensor]:
    """Draw noise images; see `noise`."""
    return noise


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Path]:
    """Write a checkpoint; see `write_checkpoint`."""
    return write_checkpoint


def noise(family: str) -> torch.Tensor:
    """Return two normalized images (2, 3, H, W) of a family's size."""
    size = SIZES.get(family, 32)
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def write_checkpoint(folder: Path, family: str, labels: tuple[str, ...] = FOREIGN) -> Path:
    """Write a random model as its authors would publish it."""
    from transformers import AutoConfig, AutoModelForImageClassification

    torch.manual_seed(1)
    config = AutoConfig.for_model(
        family,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **CONFIGS[family],
    )
    if family == "timm_wrapper":
        config.pretrained_cfg = {
            "input_size": [3, 32, 32],
            "interpolation": "bilinear",
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3],
            "crop_pct": 0.875,
        }
    model = AutoModelForImageClassification.from_config(config)
    _settle(model, noise(family))
    model.save_pretrained(folder)
    if family != "timm_wrapper":
        original_processor(family).save_pretrained(folder)
    return folder


def _settle(model: Any, images: torch.Tensor) -> None:
    """Update BatchNorm statistics; otherwise evaluation attenuates the signal of random weights."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)


def original_processor(family: str) -> Any:
    """Return the kind of image processor that the family's authors use, including its crops."""
    import transformers

    if family.startswith("dinov2"):
        return transformers.BitImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
        )
    if family == "mobilenet_v2":
        return transformers.MobileNetV2ImageProcessor(
            size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
        )
    if family.startswith("convnext") or family == "resnet":
        return transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875)
    return transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3)
