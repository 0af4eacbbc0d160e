"""Ctrl-C at any moment ends a long command with status 130, without a crash or hang."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.shipped import shipped

HOST = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import hf_wbc.cli.study_display, hf_wbc.engine.run, hf_wbc.inference.embed_datasets
import hf_wbc.comparison.compare, hf_wbc.inference.prediction_file, hf_wbc.inference.evaluate
import hf_wbc.audit.run_audit, hf_wbc.study.plan, hf_wbc.study.runner
import hf_wbc.cli.label_session, hf_wbc.inference.stress_page
from hf_wbc.cli.main import run_program
hf_wbc.study.worker.START = "fork"
for line in sys.stdin:
    is_ready, ready = os.pipe()
    if not (pid := os.fork()):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        os.dup2(log, 1)
        sys.argv[1:] = json.loads(line)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(ready, b"x")
        run_program()
    os.read(is_ready, 1)
    os.close(is_ready)
    os.close(ready)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Forks a process for each command, which saves the imports."""


class Host:
    """Runs commands and interrupts them."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def interrupted(self, command: list[str], after_s: float) -> int:
        """Return the status of a command that gets Ctrl-C after so many seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        time.sleep(after_s)
        subprocess.run(["kill", "-INT", str(pid)], check=False, capture_output=True)
        return int(self.process.stdout.readline())


@contextmanager
def started(folder: Path) -> Iterator[Host]:
    log = folder / "log.txt"
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", HOST],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "LOG": str(log), "HF_HUB_OFFLINE": "1"},
    ) as process:  # fmt: skip
        yield Host(process, log)


def commands_of(
    root: Path, grid: str, config: TrainConfig, laboratories: tuple[str, str], runs: Path
) -> dict[str, list[str]]:
    """Return long commands by name; `runs` are finished ones to compare."""
    home, away = laboratories
    toy = str(shipped("spaces/wbc/toy_model"))
    model = config.model.name
    flags = f"--model {model} --steps 5000 --batch-size 8 --eval-steps 2".split()
    return {
        "study": ["study", grid, "--out", f"{root}/runs", "--workers", "2"],
        "train": ["train", "--sources", home, *flags, "--output-dir", f"{root}/train"],
        "embed": ["embed", model, home, away, "--cache", f"{root}/features"],
        "audit": ["audit", home, away, "--out", f"{root}/audit"],
        "predict": ["predict", toy, home, "--out", f"{root}/cells.csv", "--runtime", "torch"],
        "compare": ["compare", str(runs), "--out", f"{root}/compared"],
        "label": ["label", toy, away, "--out", f"{root}/labels.csv", "--folder-labels"],
        "stress": ["stress", toy, away, "--out", f"{root}/stress", "--runtime", "torch"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("num", [pytest.param(12, marks=pytest.mark.ci), 200])
def test_interrupted_long_command_exits_with_130(
    short: TrainConfig, laboratories: tuple[str, str], tmp_path: Path,
    write_grid: Callable[..., str], num: int,
) -> None:  # fmt: skip
    rng = random.Random(17)
    grid = write_grid(short.replace(steps=5000), seed=[0, 1])
    found: Counter[tuple[str, int]] = Counter()
    flags = f"--model {short.model.name} --steps 2 --batch-size 8 --output-dir {tmp_path / 'runs'}"
    assert main(["train", "--sources", laboratories[0], *flags.split()]) == 0
    with started(tmp_path) as host:
        for number in range(num):
            commands = commands_of(
                tmp_path / str(number), grid, short, laboratories, tmp_path / "runs"
            )
            name = "study" if number % 2 else rng.choice([*commands])
            found[name, host.interrupted(commands[name], rng.uniform(0.0, 2.5))] += 1
        assert {status for _, status in found} <= {0, 130}, (found, host.log.read_text())
    print(*sorted(found.items()), sep="\n")
    assert found["study", 130] >= num // 3 and not found["study", 0], found
    assert "Traceback" not in host.log.read_text()
