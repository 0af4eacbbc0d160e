"""A study that is killed repeatedly at any point gives the same result as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.forked import is_over, start_forked

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

METHODS = ["source_only", "coral"]
SLOW = (pytest.mark.slow, pytest.mark.ci)


@pytest.mark.parametrize(
    ("num_kills", "seeds"), [(2, [0]), pytest.param(5, [0, 1], marks=SLOW)], ids=str
)
@pytest.mark.usefixtures("forked")
@pytest.mark.slow
@pytest.mark.ci
def test_randomly_killed_study_matches_undisturbed_one(
    short: TrainConfig,
    tmp_path: Path,
    write_grid: Callable[..., str],
    assert_same_run: Callable[[RunFolder, RunFolder], None],
    num_kills: int,
    seeds: list[int],
) -> None:
    config = short.replace(steps=6 * num_kills)
    command = [
        "study", write_grid(config, method=METHODS, seed=seeds), "--out", str(tmp_path / "runs"),
        "--cache", str(tmp_path / "features"), "--workers", "2",
    ]  # fmt: skip
    rng = random.Random(5)
    for _ in range(num_kills):
        study = start_forked(lambda: main(command))
        wait_for_lines(tmp_path / "runs", num_lines(tmp_path / "runs") + rng.randrange(5), study)
        time.sleep(rng.uniform(0, 0.2))
        assert kill_all(study, rng), "the study was over before it was killed"
    assert main(command) == 0
    found = {path.parent.name for path in (tmp_path / "runs").glob("*/record.json")}
    assert len(found) == len(METHODS) * len(seeds)
    for method in METHODS:
        for seed in seeds:
            whole = run(config.replace(method=method, seed=seed), tmp_path / "whole", tmp_path)
            assert_same_run(whole, RunFolder(tmp_path / "runs" / whole.path.name))
            assert whole.history.read_bytes() == history(tmp_path / "runs" / whole.path.name)


@pytest.mark.slow  # starts fresh processes; test_runner.py interrupts a study in this one
@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_study(
    short: TrainConfig, tmp_path: Path, write_grid: Callable[..., str], number: signal.Signals
) -> None:
    grid = write_grid(short.replace(steps=5000), seed=[0, 1])
    study = start_fresh(["study", grid, "--out", str(tmp_path / "runs"), "--workers", "2"])
    wait_for_lines(tmp_path / "runs", 2, study)
    workers = study.children(recursive=True)
    assert len(workers) >= 2
    study.send_signal(number)
    status = study.wait(timeout=60)
    assert status == (130 if number == signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert not list((tmp_path / "runs").glob("*/failure.json")), "the user's Ctrl-C is no failure"


def start_fresh(command: list[str]) -> psutil.Popen:
    """Start a study in a fresh process, whose workers are forks of it.

    It is not a fork of the test process, which has threads of many libraries; its forks crash when
    a signal unwinds them.
    """
    code = (
        "import sys, hf_wbc.engine.run, hf_wbc.study.worker\n"
        "from hf_wbc.cli.main import main\n"
        "hf_wbc.study.worker.START = 'fork'\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return psutil.Popen(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_all(study: psutil.Process, rng: random.Random) -> bool:
    """Kill a study and its workers in random order; return whether it was still running."""
    if is_over(study):
        return False
    everyone = [study, *study.children(recursive=True)]
    rng.shuffle(everyone)
    for process in everyone:
        if process.is_running():
            process.kill()
    os.waitpid(study.pid, 0)
    psutil.wait_procs([process for process in everyone if process != study], timeout=20)
    return True


def wait_for_lines(root: Path, number: int, study: psutil.Process) -> None:
    """Wait until the histories of all runs contain this number of evaluations."""
    while num_lines(root) < number and not is_over(study):
        time.sleep(0.01)


def num_lines(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in root.glob("*/history.jsonl"))


def history(folder: Path) -> bytes:
    return (folder / "history.jsonl").read_bytes()
