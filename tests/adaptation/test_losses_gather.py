"""Losses that couple samples use the whole batch, however many processes share it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.method_gradients import all_gradients, process_group
from torch import Tensor

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.adaptation.losses import all_gather_batch

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = (sys.executable, "-m", "support.method_gradients")


def by_two_processes(folder: Path) -> dict[str, Tensor]:
    """Compute the gradients in this process and another one, with half of each batch each."""
    rendezvous = folder / "rendezvous"
    other = subprocess.Popen(
        [*SCRIPT, str(rendezvous), "1", "2"],
        cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with process_group(rendezvous, 0, 2):
            found = all_gradients(0, 2)
        said = other.communicate(timeout=300)[1]
    finally:
        other.kill()
    assert other.returncode == 0, said[-3000:]
    return found


@pytest.fixture(scope="module")
def by_one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], ...]:
    return all_gradients(), by_two_processes(tmp_path_factory.mktemp("gradients"))


@pytest.mark.parametrize(
    "name", [name for name in method_names() if not load_method(name).closed_form]
)
@pytest.mark.slow
@pytest.mark.ci
def test_two_processes_match_one_with_doubled_batch(
    name: str, by_one_and_two: tuple[dict[str, Tensor], ...]
) -> None:
    one, two = by_one_and_two
    mine = [key for key in one if key.startswith(f"{name}/")]
    assert mine
    for key in mine:
        torch.testing.assert_close(
            two[key], one[key], rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_single_process_gathers_nothing() -> None:
    values = torch.randn(3, 2)
    assert all_gather_batch(values) is values
