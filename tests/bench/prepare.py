"""Time and memory of `hf-wbc prepare` with 1 and 2 processes, on whole and half archives.

    python tests/bench/prepare.py --archive FOLDER [--source acevedo_20] [--rounds 3]
        [--fraction 1.0 0.5] [--work DIR]

Each round runs the real command with 1 and with 2 processes, in alternating order, on each fraction
of the archive (hard links to every nth file of each folder, with --subset). The speed-up is the
ratio within a round. Memory is the PSS of the command and all of its processes (shared pages count
once), sampled from /proc ten times a second; the maximum is reported.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))
SAMPLE_SECONDS = 0.1
NUM_PROCS = (1, 2)


def part_of(archive: Path, fraction: float, folder: Path) -> Path:
    """Return a folder with a fraction of the files of each folder; the archive itself for 1."""
    if fraction == 1:
        return archive
    for parent in sorted(path for path in archive.rglob("*") if path.is_dir()):
        files = sorted(path for path in parent.iterdir() if path.is_file())
        there = folder / parent.relative_to(archive)
        there.mkdir(parents=True)
        for number, path in enumerate(files):
            if int((number + 1) * fraction) > int(number * fraction):
                link_or_copy(path, there / path.name)
    return folder


def link_or_copy(path: Path, to: Path) -> None:
    """Create a hard link, or a copy if `to` is on another disk."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)


def tree(pid: int) -> Iterator[int]:
    """Return a process and all of its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from tree(int(child))


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process and all of its descendants, in bytes."""
    total = 0
    try:
        for process in tree(pid):
            for line in (
                Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            ):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    except OSError:  # one of them has just ended; rely on the next sample
        return 0
    return total


def run(words: list[str]) -> tuple[float, int]:
    """Run a command that must succeed; return its seconds and peak memory in bytes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said)
        peak = 0
        while process.poll() is None:
            peak = max(peak, pss_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{said.read()}")
    return seconds, peak


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--source", default="acevedo_20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fraction", type=float, nargs="+", default=[1.0, 0.5])
    parser.add_argument("--work", type=Path, help="where to build; a temporary folder if not given")
    options = parser.parse_args()
    seconds: dict[tuple[float, int], list[float]] = {}
    peaks: dict[tuple[float, int], list[int]] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as place:
        work = Path(place)
        parts = {f: part_of(options.archive, f, work / f"part_{f}") for f in options.fraction}
        for turn in range(options.rounds):
            for fraction, archive in parts.items():
                for num_proc in NUM_PROCS[:: -1 if turn % 2 else 1]:
                    out = work / "out"
                    words = [HF_WBC, "prepare", options.source, "--archive", str(archive)]
                    words += ["--out", str(out), "--num-proc", str(num_proc)]
                    took, peak = run(words + ["--subset"] * (fraction < 1))
                    shutil.rmtree(out)
                    seconds.setdefault((fraction, num_proc), []).append(took)
                    peaks.setdefault((fraction, num_proc), []).append(peak)
                    print(
                        f"round {turn + 1}, {fraction:g} of the archive, {num_proc} processes: "
                        f"{took:.1f} s, {peak / 2**20:.0f} MiB",
                        file=sys.stderr,
                    )
    print("| part | processes | seconds, median (lowest to highest) | peak memory (PSS), MiB |")
    print("|---|---|---|---|")
    for (fraction, num_proc), times in sorted(seconds.items()):
        spread = f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
        peak = max(peaks[fraction, num_proc]) / 2**20
        print(f"| {fraction:g} | {num_proc} | {spread} | {peak:.0f} |")
    for fraction in options.fraction:
        both = zip(seconds[fraction, 1], seconds[fraction, 2], strict=True)
        ratios = [one / two for one, two in both]
        print(
            f"\n{fraction:g} of the archive: 2 processes against 1 are "
            f"{statistics.median(ratios):.2f} x as fast ({min(ratios):.2f} to {max(ratios):.2f}, "
            f"{len(ratios)} rounds)"
        )


if __name__ == "__main__":
    main()
