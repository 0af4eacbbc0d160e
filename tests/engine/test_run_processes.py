"""Killed and concurrent real processes, started with the README's commands or forked."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file
from support.forked import is_over, start_forked

from hf_wbc.cli.main import main
from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.engine import checkpoint
from hf_wbc.records import RunFolder

ROOT = Path(__file__).resolve().parents[2]
HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")
TORCHRUN = (
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
)  # fmt: skip
DEADLINE_S = 600
TWO = ("--multi_gpu", "--num_processes", "2")
TRAIN = "train.py"
LONG = 24
SHORTER = 8
"""Steps of a run by two processes, which synchronize at each step."""


def command(launcher: tuple[str, ...], config: TrainConfig, out: Path) -> list[str]:
    """Return the command that trains `config`, with a flag for every field."""
    values = config.flat()
    values |= {**values.pop("augmentation"), "output_dir": out, "cache": out / "cache"}
    words = [*launcher] if TRAIN in launcher else [*launcher, "train"]
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *value] if value else []
        elif value not in (None, {}):
            words += [f"--{flag}", str(value)]
    return words


def environment() -> Mapping[str, str]:
    """Return this environment, offline, on the CPU, and without variables of an outer launcher.

    The thread count stays the same: partial sums of other sizes round differently.
    """
    left = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in left}
    threads = str(torch.get_num_threads())
    return {**kept, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}


def end(words: list[str]) -> None:
    """Run a command in the checkout; it must succeed."""
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr[-2000:]


def start_fresh(words: list[str]) -> psutil.Process:
    """Start a command in the checkout."""
    return psutil.Popen(words, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)


def kill_when(started: psutil.Process, moment: Callable[[], bool]) -> None:
    """`kill -9` a process with all of its children once `moment()` is true.

    The processes are stopped first, so that the condition still holds when they are killed. A
    process that ends too early fails the test.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not is_over(started) and time.monotonic() < deadline:
        if moment():
            tree = [started, *started.children(recursive=True)]
            send(tree, signal.SIGSTOP)
            if moment():
                send(tree, signal.SIGKILL)
                psutil.wait_procs(tree)
                return
            send(tree, signal.SIGCONT)
        time.sleep(0.001)
    send([started], signal.SIGKILL)
    raise AssertionError("the moment never came")


def die_saving(words: list[str]) -> int:
    """Run a command that is killed while it writes a checkpoint file.

    The write takes a millisecond, so it cannot be caught from outside.
    """
    save, saved = checkpoint.save_file, list[Path]()

    def save_and_die(tensors: Any, path: Path) -> None:
        save(tensors, path)
        saved.append(path)
        if len(saved) == 20:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = save_and_die
    return main(words)


def send(processes: list[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        if process.is_running():
            process.send_signal(what)


def only_run(out: Path) -> RunFolder:
    """Return the only run in a folder of runs."""
    (config,) = out.glob("*/config.json")
    return RunFolder(config.parent)


def saved_weights(out: Path) -> bytes:
    """Return the bytes of the model that a finished run saved."""
    return (only_run(out).model / "model.safetensors").read_bytes()


def has_begun(out: Path) -> Callable[[], bool]:
    """Return whether the folder exists without a checkpoint."""
    return lambda: bool([*out.glob("*/config.json")]) and not [*out.glob("*/checkpoint/0*")]


def is_at(out: Path, step: int) -> Callable[[], bool]:
    """Return whether a complete checkpoint of this step or a later one exists."""
    return lambda: any(int(path.name) >= step for path in out.glob("*/checkpoint/0*"))


def is_half_saved(out: Path) -> bool:
    """Return whether a checkpoint is partially written."""
    return bool([*out.glob("*/checkpoint/.*.partial/*")])


@pytest.fixture(scope="module")
def long(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    """Configure a run with many evaluations, to leave time to kill it."""
    home, away = laboratories
    return TrainConfig(
        sources=(home,),
        target=(away,),
        model=tiny_model,
        steps=LONG,
        eval_steps=1,
        batch_size=4,
        gradient_accumulation_steps=2,
        ema=0.5,
        learning_rate=1e-3,
        augmentation=Augmentation(rotation_deg=20),
    )


@pytest.fixture(scope="module")
def shorter(long: TrainConfig) -> TrainConfig:
    """Configure that run with fewer steps."""
    return long.replace(steps=SHORTER)


@pytest.fixture(scope="module")
def by_two(shorter: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shorter run by two undisturbed processes."""
    out = tmp_path_factory.mktemp("by_two")
    end(command((*TORCHRUN, TRAIN), shorter, out))
    return out


@pytest.mark.parametrize(
    "is_fresh", [False, pytest.param(True, marks=(pytest.mark.slow, pytest.mark.ci))]
)
@pytest.mark.slow
@pytest.mark.ci
def test_run_killed_at_every_stage_ends_in_same_weights(
    long: TrainConfig, tmp_path: Path, is_fresh: bool
) -> None:
    """Fresh processes end with `accelerate launch train.py` what `hf-wbc train` started."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command((), long, whole)) == 0
    words = command((), long, killed)

    def start() -> psutil.Process:
        return start_fresh([HF_WBC, *words]) if is_fresh else start_forked(lambda: main(words))

    kill_when(start(), has_begun(killed))
    assert start_forked(lambda: die_saving(words)).wait() == -signal.SIGKILL
    assert is_half_saved(killed)
    assert not only_run(killed).finished
    kill_when(start(), is_at(killed, LONG))
    assert not only_run(killed).finished
    if is_fresh:
        end(command((*ACCELERATE, TRAIN), long, killed))
    else:
        assert main(words) == 0
    assert saved_weights(killed) == saved_weights(whole)
    ran, resumed = only_run(whole), only_run(killed)
    assert resumed.read_history() == ran.read_history()
    assert resumed.read_record()["results"] == ran.read_record()["results"]
    left = {path.name for path in resumed.path.iterdir()}
    assert left == {path.name for path in ran.path.iterdir()}


@pytest.mark.slow  # other tests cover killing one process and the result of two
@pytest.mark.ci
def test_two_killed_processes_end_in_same_weights(
    shorter: TrainConfig, by_two: Path, tmp_path: Path
) -> None:
    """torchrun resumes a run that accelerate started."""
    kill_when(
        start_fresh(command((*ACCELERATE, *TWO, TRAIN), shorter, tmp_path)), is_at(tmp_path, 4)
    )
    assert not only_run(tmp_path).finished
    end(command((*TORCHRUN, TRAIN), shorter, tmp_path))
    assert saved_weights(tmp_path) == saved_weights(by_two)
    assert only_run(tmp_path).path.name == only_run(by_two).path.name


@pytest.mark.slow  # test_losses_gather.py and test_loader_stream.py cover the parts
@pytest.mark.ci
def test_two_processes_match_one_with_doubled_batch(
    shorter: TrainConfig, by_two: Path, tmp_path: Path
) -> None:
    """Color and geometry are drawn per image, whichever process holds it."""
    doubled = shorter.replace(batch_size=2 * shorter.optim.batch_size)
    assert main(command((), doubled, tmp_path)) == 0
    one, two = only_run(tmp_path), only_run(by_two)
    assert two.read_record()["machine"]["num_processes"] == 2
    losses = [[row["loss"]["loss"] for row in run.read_history()] for run in (one, two)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    found = load_file(two.model / "model.safetensors")
    for name, values in load_file(one.model / "model.safetensors").items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


def test_unconnected_processes_are_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert main(command((), config, Path("nowhere"))) == 1
    assert "2 processes were launched, but they do not find each other" in capfd.readouterr().err


def test_launch_that_loses_a_process_is_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process with these variables."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert main(command((), config, Path("nowhere"))) == 1
    assert "torchrun --nproc-per-node" in capfd.readouterr().err
