"""Real processes: killed without warning, and two at once, through the commands of the README."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def command(config: TrainConfig, out: Path, *launcher: str) -> list[str]:
    """train.py with this configuration."""
    values = config.to_dict()
    flags = {
        name: values[name]
        for name in ("model", "steps", "batch_size", "evaluate_every", "lr", "ema", "accumulation")
    }
    words = [word for name, value in flags.items() for word in ("--" + name, str(value))]
    words += ["--sources", *config.sources, "--target", *config.target, "--out", str(out)]
    words += ["--cache", str(out / "cache")]
    return [*(launcher or (sys.executable,)), str(ROOT / "train.py"), *words]


def launch(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)


def kill_after_evaluations(words: list[str], out: Path, num: int) -> None:
    """Start a command and kill its whole session once its history has `num` lines."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, start_new_session=True, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        found = list(out.glob("*/history.jsonl"))
        if found and len(found[0].read_text().splitlines()) >= num:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def only_run(out: Path) -> RunFolder:
    (config,) = out.glob("*/config.json")
    return RunFolder(config.parent)


def assert_same_weights(a: RunFolder, b: RunFolder) -> None:
    first, second = (load_file(run.model / "model.safetensors") for run in (a, b))
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert (values == second[name]).all(), name


def test_a_killed_run_ends_in_the_same_weights_when_repeated(
    config: TrainConfig, tmp_path: Path
) -> None:
    longer = replace(config, steps=60)
    whole = run(longer, tmp_path / "whole", tmp_path / "cache")
    killed = tmp_path / "killed"
    kill_after_evaluations(command(longer, killed), killed, 4)
    assert not only_run(killed).finished
    run(longer, killed, tmp_path / "cache")
    assert_same_weights(whole, only_run(killed))


def test_two_killed_processes_end_in_the_same_weights_when_repeated(
    config: TrainConfig, tmp_path: Path
) -> None:
    longer = replace(config, steps=40)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = launch(command(longer, whole, *TORCHRUN))
    assert done.returncode == 0, done.stderr
    kill_after_evaluations(command(longer, killed, *TORCHRUN), killed, 3)
    assert not only_run(killed).finished
    done = launch(command(longer, killed, *TORCHRUN))
    assert done.returncode == 0, done.stderr
    assert_same_weights(only_run(whole), only_run(killed))


def test_processes_that_do_not_find_each_other_are_refused(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched"):
        run(config, tmp_path / "runs", tmp_path / "cache")
