"""`embed` of this checkout against that of an earlier commit, on the same model and images.

    git worktree add --detach ../before COMMIT
    python tests/bench/embed_turns.py ../before MODEL DATASET [--num-images 600] [--turns 3]

Each turn is a new process with an empty cache of datasets: it loads the model, chooses the runtime,
and then embeds the first training images, decoding included. Only embedding is timed, as wall and
as CPU seconds of the process and its children. The sides take turns; ratios are medians over pairs
of turns. The last line is the largest difference of a feature, in standard deviations.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[2]
CHILD = """
import json, os, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
from hf_wbc.data.dataset import load_split
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.features import embed
model, dataset, num, work = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
found = load_split(dataset, "train")
found = replace(
    found, dataset=found.dataset.select(range(num)), labels=found.labels[:num],
    image_ids=found.image_ids[:num], groups=None, fingerprint=f"the first {num}",
)
accelerator, options = make_accelerator(), {}
try:
    from hf_wbc.inference.select_runtime import load_to_embed
    loaded, options["runtime"] = load_to_embed(model, None, "auto", accelerator.device)
except ImportError:
    from hf_wbc.models import load_classifier
    loaded = load_classifier(model)
wall, cpu = time.perf_counter(), sum(os.times()[:4])
table = embed(loaded, found, work / "features", accelerator, **options)
seconds = [time.perf_counter() - wall, sum(os.times()[:4]) - cpu]
np.save(work / "features.npy", table.chunks[0])
runtime = options.get("runtime")
print(json.dumps([*seconds, runtime.name if runtime else "torch"]))
"""


def turn(tree: Path, arguments: argparse.Namespace) -> tuple[list[float], str, np.ndarray]:
    """Embed in a new process; return wall and CPU seconds, the runtime, and the features."""
    with tempfile.TemporaryDirectory() as work:
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "HF_DATASETS_CACHE": f"{work}/datasets",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        num = str(arguments.num_images)
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHILD, arguments.model, arguments.dataset, num, work],
            env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        *seconds, runtime = json.loads(done.stdout.splitlines()[-1])
        return seconds, runtime, np.load(f"{work}/features.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--num-images", type=int, default=600)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    trees, seconds, features = (arguments.before.resolve(), HERE), ([], []), {}
    for number in range(arguments.turns):
        for side in (0, 1) if number % 2 else (1, 0):
            took, runtime, features[side] = turn(trees[side], arguments)
            seconds[side].append(took)
            wall, cpu = (arguments.num_images / each for each in took)
            name = ("before", "here")[side]
            print(f"{name} ({runtime}): {wall:.1f} images/s, {cpu:.1f} per CPU second", flush=True)
    for which, clock in enumerate(("wall", "CPU")):
        ratios = sorted(a[which] / b[which] for a, b in zip(*seconds, strict=True))
        middle = statistics.median(ratios)
        print(f"{clock}: {middle:.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    deviation = np.abs(features[0] - features[1]).max() / features[0].std()
    print(f"largest difference of a feature: {deviation:.1e} standard deviations")


if __name__ == "__main__":
    main()
