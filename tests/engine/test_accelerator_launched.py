"""Every method through the README's command: `accelerate launch train.py`.

Slow: sixty processes, each of which imports everything. Run with `-m slow`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.records import RunFolder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "train.py")
SHORT = ("--steps", "2", "--batch-size", "8", "--eval-steps", "1", "--image-size", "32")
CASES = [
    (name, inputs)
    for name in method_names()
    for inputs in ("images", "features")
    if inputs == "features" or not load_method(name).closed_form
    if inputs == "images" or not load_method(name).needs.images
]


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a small ResNet, with BatchNorm for the methods that adapt it."""
    import torch
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    folder = tmp_path_factory.mktemp("models") / "tiny_resnet"
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def domains(
    laboratories: tuple[str, str],
    make_domain: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, ...]:
    """Return two sources and a target."""
    other = make_domain(tmp_path_factory.mktemp("third") / "other", name="other", seed=3)
    home, away = laboratories
    return home, str(other), away


def launch(method: str, model: str, domains: tuple[str, ...], out: Path, *more: str) -> RunFolder:
    """Train a few steps and return the finished run."""
    *sources, target = domains
    words = [
        *LAUNCH, "--method", method, "--model", model, "--sources", *sources, "--target", target,
        *SHORT, "--out", str(out), "--cache", str(out / "cache"), *more,
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (record,) = out.glob("*/record.json")
    return RunFolder(record.parent)


@pytest.mark.parametrize(("method", "inputs"), CASES)
def test_method_launches_by_name(
    method: str, inputs: str, convolutional: str, domains: tuple[str, ...], tmp_path: Path
) -> None:
    run = launch(method, convolutional, domains, tmp_path, "--inputs", inputs)
    assert run.finished
    assert run.read_record()["config"]["adapt"]["method"] == method
    assert (run.path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(("method", "more"), [("shot", ()), ("tent", ("--bottleneck", "16"))])
def test_second_phase_works_with_lora(
    method: str, more: tuple[str, ...], tiny_model: str, domains: tuple[str, ...], tmp_path: Path
) -> None:
    lora = "--trainable", "lora", "--image-size", "28"
    assert launch(method, tiny_model, domains, tmp_path, *lora, *more).finished
