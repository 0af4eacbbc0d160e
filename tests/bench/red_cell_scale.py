"""How well red cells and nuclei tell the scale of 20 images from one microscope.

    python tests/bench/red_cell_scale.py FOLDER UM_PER_PX [FOLDER UM_PER_PX ...]

Measures up to 300 images of each folder (drawn with seed 0; Acevedo's folder `platelet` is left
out), then draws 20 of them 1,000 times and compares the pooled estimate with the true scale.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hf_wbc.data.nucleus import Nucleus, find_nucleus
from hf_wbc.data.red_cells import red_cell_diameters
from hf_wbc.data.scale import scale_from_nuclei, scale_from_red_cells

NUM_IMAGES, NUM_DRAWN, NUM_DRAWS = 300, 20, 1000
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


def main(folders: list[tuple[Path, float]]) -> None:
    """Print one row per folder and ruler."""
    print("| folder | ruler | cells per drop | median error | within 6 % | 95 % of errors |")
    for folder, um_per_px in folders:
        files = [
            p
            for p in sorted(folder.rglob("*"))
            if p.suffix.lower() in SUFFIXES and p.name[0] != "."
        ]
        files = [p for p in files if p.parent.name != "platelet"]
        rng = np.random.default_rng(0)
        files = [files[i] for i in rng.permutation(len(files))[:NUM_IMAGES]]
        measured, seconds = [], 0.0
        for file in files:
            pixels = np.asarray(Image.open(file).convert("RGB"))
            start = time.process_time()
            cells = red_cell_diameters(pixels)
            seconds += time.process_time() - start
            measured.append((cells, find_nucleus(pixels)))
        rows = [draw(measured, rng) for _ in range(NUM_DRAWS)]
        for ruler in ("red cells", "nuclei"):
            report(folder.name, ruler, [row[ruler] for row in rows], um_per_px)
        print(f"{folder.name}: {1e3 * seconds / len(files):.0f} ms per image")


def draw(
    measured: list[tuple[list[float], Nucleus | None]], rng: np.random.Generator
) -> dict[str, tuple[float, int] | None]:
    """Estimate the scale of a random drop with both rulers."""
    drop = [measured[i] for i in rng.permutation(len(measured))[:NUM_DRAWN]]
    nuclei = [nucleus for _, nucleus in drop]
    scale = scale_from_nuclei(nuclei)
    return {
        "red cells": scale_from_red_cells([d for cells, _ in drop for d in cells]),
        "nuclei": None if scale is None else (scale, sum(n is not None for n in nuclei)),
    }


def report(folder: str, ruler: str, found: list[tuple[float, int] | None], true: float) -> None:
    """Print one row; a drop without an estimate counts as wrong."""
    errors = np.array([np.inf if each is None else each[0] / true - 1 for each in found])
    numbers = [0 if each is None else each[1] for each in found]
    low, middle, high = np.quantile(np.nan_to_num(errors, posinf=9), (0.025, 0.5, 0.975))
    print(
        f"| {folder} | {ruler} | {np.median(numbers):.0f} | {100 * middle:+.1f} % | "
        f"{100 * (np.abs(errors) <= 0.06).mean():.1f} % | {100 * low:+.1f} to {100 * high:+.1f} % |"
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    main([(Path(f), float(s)) for f, s in zip(given[::2], given[1::2], strict=True)])
