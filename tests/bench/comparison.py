"""Time the comparison of many runs and the map of many cells.

    python tests/bench/comparison.py [--runs FOLDER] [--num-runs 1000] [--cells 32000]

With --runs, a folder of finished runs, the script times `hf-wbc compare --no-report` as a whole
process on --num-runs copies of them, each with a different seed (and links to the original tables).
Without it, only the map is timed: UMAP of random cells around the centers of eleven classes in two
laboratories.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hf_wbc.audit.embedding import embed
from hf_wbc.records import digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--num-runs", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=1280, help="of the features")
    options = parser.parse_args()
    if options.cells:
        features = clouds(options.cells, options.width)
        start = time.perf_counter()
        assert embed(features) is not None
        print(f"UMAP of {options.cells:,} cells: {time.perf_counter() - start:.1f} s", flush=True)
    if options.runs is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder) / "runs"
        multiply(options.runs, copies, options.num_runs)
        words = [
            str(Path(sys.executable).with_name("hf-wbc")), "compare", str(copies), "--no-report",
            "--out", str(Path(folder) / "comparison"),
        ]  # fmt: skip
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            took = time.perf_counter() - start
            print(f"{options.num_runs:,} run folders compared: {took:.1f} s", flush=True)


def clouds(num: int, width: int) -> np.ndarray:
    """Draw features (num, width) of eleven classes in two laboratories."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(2, 11, width)) * 2
    return (
        centers[rng.integers(0, 2, num), rng.integers(0, 11, num)] + rng.normal(size=(num, width))
    ).astype(np.float32)


def multiply(runs: Path, into: Path, num: int) -> None:
    """Write `num` run folders that differ from those below `runs` only in their seeds."""
    found = sorted(path.parent for path in runs.glob("*/record.json"))
    for i in range(num):
        origin = found[i % len(found)]
        config = json.loads((origin / "config.json").read_bytes())
        record = json.loads((origin / "record.json").read_bytes())
        config["identity"]["copy"] = i
        record["run"] = digest(config["identity"])
        record["config"]["seed"] = int(record["config"]["seed"]) + 100 * (i // len(found))
        folder = into / record["run"]
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "record.json").write_text(json.dumps(record))
        for name in ("predictions.parquet", "features.parquet"):
            (folder / name).symlink_to((origin / name).resolve())


if __name__ == "__main__":
    main()
