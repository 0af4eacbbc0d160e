"""Losses that couple samples are those of the whole batch, however many processes share it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.adaptation._gather import whole

SCRIPT = Path(__file__).with_name("gradients.py")
NAMES = [name for name in method_names() if not load_method(name).needs.images]


def gradients(world: int, out: Path) -> dict[str, Tensor]:
    """What the script finds with `world` processes."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world))
    done = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out)


@pytest.fixture(scope="module")
def by_one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], ...]:
    folder = tmp_path_factory.mktemp("gradients")
    return gradients(1, folder / "one"), gradients(2, folder / "two")


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_what_one_with_the_doubled_batch_gives(
    name: str, by_one_and_two: tuple[dict[str, Tensor], ...]
) -> None:
    one, two = by_one_and_two
    mine = [key for key in one if key.startswith(f"{name}/")]
    assert mine
    for key in mine:
        torch.testing.assert_close(
            two[key], one[key], rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_one_process_keeps_its_samples() -> None:
    values = torch.randn(3, 2)
    assert whole(values) is values
