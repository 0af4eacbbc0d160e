"""Overhead of a study: `hf-wbc study` against sequential `hf-wbc train` commands.

    python tests/bench/study.py [--steps 200] [--seeds 3] [--rounds 1]

The runs are those of the toy study's first direction, source_only, one at a time. The main figure
is the CPU time of all processes, so that other work on the machine hardly matters; wall time is
listed as well.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))
GRID = """
from hf_wbc.study.protocols import toy

def study(steps: int = 100, seeds: int = 1):
    return toy(methods=("source_only",), seeds=seeds, steps=steps)[:seeds]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("grid.py").write_text(GRID, encoding="utf-8")
        done([HF_WBC, "study", "toy", "--set", "methods=source_only", "seeds=1", "steps=2"])
        numbers = [f"steps={options.steps}", f"seeds={options.seeds}"]
        print("| round | bare runs, CPU s (wall) | study, CPU s (wall) | study / bare |")
        print("|---|--:|--:|--:|")
        for number in range(options.rounds):
            bare = [
                done(
                    [HF_WBC, "train", *words(options.steps, seed), "--output-dir", f"bare_{number}"]
                )
                for seed in range(options.seeds)
            ]
            cpu, wall = (sum(each) for each in zip(*bare, strict=True))
            command = [HF_WBC, "study", "grid.py", "--workers", "1", "--out", f"study_{number}"]
            whole = done([*command, "--set", *numbers])
            assert runs(f"study_{number}") == runs(f"bare_{number}"), "other runs were made"
            print(
                f"| {number} | {cpu:.1f} ({wall:.1f}) | {whole[0]:.1f} ({whole[1]:.1f}) "
                f"| {whole[0] / cpu:.3f} |",
                flush=True,
            )


def runs(out: str) -> set[str]:
    """Return the names of finished runs."""
    return {path.parent.name for path in Path(out).glob("*/record.json")}


def words(steps: int, seed: int) -> list[str]:
    """Return the arguments of `hf-wbc` for one run of the grid."""
    data = "build/study_toy/data"
    return [
        "train", "--sources", f"{data}/toy_acevedo_20", "--target", f"{data}/toy_matek_19",
        "--model", "build/study_toy/backbone", "--from-scratch", "--batch-size", "48",
        "--learning-rate", "2e-3", "--steps", str(steps), "--eval-steps", str(max(1, steps // 4)),
        "--seed", str(seed),
    ]  # fmt: skip


def done(command: list[str]) -> tuple[float, float]:
    """Run a command; return CPU and wall seconds of it and all of its descendants."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, time.perf_counter() - start


if __name__ == "__main__":
    main()
