"""Real processes: killed without warning, and two at once, through the commands of the README."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

ROOT = Path(__file__).resolve().parents[2]
HF_WBC = (str(Path(sys.executable).with_name("hf-wbc")), "train")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
DEADLINE_S = 300
TRAIN = "train.py"
TWO = ("--nproc-per-node", "2", TRAIN)
LONG = 60


def command(launcher: tuple[str, ...], config: TrainConfig, out: Path, **more: Any) -> list[str]:
    """A command line that trains `config`, all of whose fields but nested ones become flags."""
    flags: dict[str, Any] = {**config.to_dict(), **more, "out": out, "cache": out / "cache"}
    words = list(launcher)
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if value is None or isinstance(value, dict):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)] if value else []
        else:
            words += [f"--{flag}", str(value)]
    return words


def environment() -> Mapping[str, str]:
    """Ours, but offline, on the CPU, and without what an outer launcher left in it."""
    left = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in left}
    return {**kept, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def launch(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout to its end."""
    return subprocess.run(
        words, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=DEADLINE_S
    )


def finish(words: list[str]) -> None:
    """Run a command that must succeed."""
    done = launch(words)
    assert done.returncode == 0, done.stderr


def kill_when(words: list[str], moment: Callable[[], bool]) -> None:
    """Start a command and `kill -9` it with all its children at a moment that it is in.

    The processes are stopped first, so that the moment still is when they are killed. A command
    that ends before its moment came fails the test.
    """
    deadline = time.monotonic() + DEADLINE_S
    with subprocess.Popen(words, env=environment(), cwd=ROOT, stderr=subprocess.PIPE) as started:
        whole = psutil.Process(started.pid)
        while started.poll() is None and time.monotonic() < deadline:
            if moment():
                tree = [whole, *whole.children(recursive=True)]
                send(tree, signal.SIGSTOP)
                if moment():
                    send(tree, signal.SIGKILL)
                    psutil.wait_procs(tree)
                    return
                send(tree, signal.SIGCONT)
            time.sleep(0.001)
        started.kill()
        assert started.stderr is not None
        raise AssertionError(f"the moment never came: {started.stderr.read().decode()[-2000:]}")


def send(processes: list[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        if process.is_running():
            process.send_signal(what)


def only_run(out: Path) -> RunFolder:
    """The one run in a folder of runs."""
    (config,) = out.glob("*/config.json")
    return RunFolder(config.parent)


def saved_weights(out: Path) -> bytes:
    """The bytes of the model that a finished run left."""
    return (only_run(out).model / "model.safetensors").read_bytes()


def has_begun(out: Path) -> Callable[[], bool]:
    """The folder is there, and no checkpoint in it."""
    return lambda: bool([*out.glob("*/config.json")]) and not [*out.glob("*/checkpoint/0*")]


def is_at(out: Path, step: int) -> Callable[[], bool]:
    """A checkpoint of this step or a later one is there, whole."""
    return lambda: any(int(path.name) >= step for path in out.glob("*/checkpoint/0*"))


def is_saving(out: Path) -> Callable[[], bool]:
    """A checkpoint is half written."""
    return lambda: bool([*out.glob("*/checkpoint/.*.partial/*")])


@pytest.fixture
def long(config: TrainConfig) -> TrainConfig:
    """A run of many evaluations, so that there is time to kill it."""
    return replace(config, steps=LONG, evaluate_every=1, batch_size=4)


def test_a_run_killed_at_every_stage_ends_in_the_same_weights(
    long: TrainConfig, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(command(HF_WBC, long, whole))
    words = command(HF_WBC, long, killed)
    for moment in (
        has_begun(killed), is_at(killed, 3), is_saving(killed), is_at(killed, LONG)
    ):  # fmt: skip
        kill_when(words, moment)
        assert not only_run(killed).finished
    finish(words)
    assert saved_weights(killed) == saved_weights(whole)
    ran, resumed = only_run(whole), only_run(killed)
    assert resumed.read_history() == ran.read_history()
    assert resumed.read_record()["results"] == ran.read_record()["results"]
    left = {path.name for path in resumed.path.iterdir()}
    assert left == {path.name for path in ran.path.iterdir()}


def test_two_killed_processes_end_in_the_same_weights(long: TrainConfig, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(command((*TORCHRUN, *TWO), long, whole))
    words = command((*TORCHRUN, *TWO), long, killed)
    kill_when(words, is_at(killed, 4))
    assert not only_run(killed).finished
    finish(words)
    assert saved_weights(killed) == saved_weights(whole)
    assert only_run(whole).read_record()["machine"]["num_processes"] == 2


def test_two_processes_see_what_one_with_twice_the_batch_sees(
    config: TrainConfig, tmp_path: Path
) -> None:
    """Colour and geometry are drawn for each image, whichever process holds it."""
    config = replace(config, lr=1e-3, augmentation=Augmentation(rotation_deg=20))
    finish(command((*TORCHRUN, *TWO), config, tmp_path / "two", rotation_deg=20))
    doubled = replace(config, batch_size=2 * config.batch_size)
    one = run(doubled, tmp_path / "one", tmp_path / "cache")
    two = only_run(tmp_path / "two")
    for name, values in load_file(one.model / "model.safetensors").items():
        found = load_file(two.model / "model.safetensors")[name]
        np.testing.assert_allclose(found, values, atol=2e-5, err_msg=name)
    losses = [[row["loss"]["loss"] for row in folder.read_history()] for folder in (one, two)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_accelerate_launch_starts_train_py(config: TrainConfig, tmp_path: Path) -> None:
    finish(command((*ACCELERATE, TRAIN), config, tmp_path))
    assert only_run(tmp_path).finished


def test_a_launch_that_loses_a_process_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    """`accelerate launch --cpu` starts one process whatever it is told."""
    done = launch(command((*ACCELERATE, "--cpu", "--num_processes", "2", TRAIN), config, tmp_path))
    assert done.returncode != 0
    assert "torchrun --nproc-per-node" in done.stderr
    assert not [*tmp_path.iterdir()]
