"""Do the intervals of a differential hold? Slides of known blood, drawn from held-out images.

    python tests/bench/simulated_slides.py MODEL ACEVEDO PLATELETS [--cache FILE] [--slides 100]

Draws blood (shares of the classes that the model knows, nucleated red cells and platelets) and from
each a slide of 500 objects out of ACEVEDO's test images, which neither training nor the held-out
cells of the model's reference set have seen, and PLATELETS, of which every other image took no part
in fitting its detector. Each slide is counted as the page counts it: without review, with all cells
reviewed, and with 100: drawn at random, the most doubtful ones with those that the model rejects
first, and the most doubtful ones of those that it accepts. Prints the slides whose 95 % intervals
contain the true shares of all classes at once, how wide the intervals are, and how much of the
width that review can remove is gone: what is left when all cells are reviewed is the sampling error
of the slide, which no review changes.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hf_wbc.data.dataset import load_splits
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.evaluation.differential import Differential, differential
from hf_wbc.evaluation.slide import UNKNOWN, HeldOut
from hf_wbc.inference.batch_predict import predict_images
from hf_wbc.inference.options import PredictOptions
from hf_wbc.inference.predictor import Predictor
from hf_wbc.taxonomy import CLASSES, ERYTHROBLAST, NAMES

NUM_OBJECTS, NUM_REVIEWED = 500, 100
PLATELET = -1
"""Label of a platelet among the images."""
UM_PER_PX = 0.1
TYPICAL = {
    "neutrophil_segmented": 55.0, "neutrophil_banded": 4.0, "lymphocyte_typical": 27.0,
    "monocyte": 7.0, "eosinophil": 3.0, "basophil": 1.0, "metamyelocyte": 1.0, "myelocyte": 1.0,
    "promyelocyte": 1.0,
}  # fmt: skip
"""White cells of a blood with a slight left shift, in percent."""
SPREAD = 40.0
"""Concentration of the Dirichlet distribution around TYPICAL."""
MOST_RED, MOST_PLATELETS = 0.12, 0.08
"""Largest shares of nucleated red cells and of platelets among the objects."""


@dataclass(frozen=True)
class Images:
    """Predictions for N images of known class."""

    labels: NDArray[np.int64]
    """Class ids (N,), PLATELET for platelets."""
    chances: NDArray[np.float64]
    """Probabilities (N, 11)."""
    rejected: NDArray[np.bool_]


def main() -> None:
    """Print one row per way of reviewing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("platelets", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--slides", type=int, default=100)
    given = parser.parse_args()
    if given.cache is None or not given.cache.exists():
        images = predictions(given.model, given.data, given.platelets)
        if given.cache is not None:
            np.savez(given.cache, **vars(images))
    else:
        images = Images(**np.load(given.cache))
    held_out = Predictor.load(given.model).held_out
    assert held_out is not None, "the model has no reference set"
    report(images, held_out, given.slides)


def predictions(model: str, data: str, platelets: Path) -> Images:
    """Predict the test images and the platelets that played no part."""
    with tempfile.TemporaryDirectory() as work:
        tested = predict_images(
            model, data, Path(work) / "a", make_accelerator(), PredictOptions(splits=("test",))
        )
        others = Path(work) / "platelets"
        others.mkdir()
        for path in sorted(platelets.glob("*.jpg"))[1::2]:
            (others / path.name).symlink_to(path.resolve())
        options = PredictOptions(um_per_px=UM_PER_PX, follow_links=True)
        outside = predict_images(model, str(others), Path(work) / "b", make_accelerator(), options)
    assert tested.rejected is not None and outside.rejected is not None
    (domain,) = load_splits(data, ["test"])
    labels = np.concatenate([domain.labels, np.full(len(outside.logits), PLATELET)])
    logits = np.concatenate([tested.logits, outside.logits]).astype(np.float64)
    rejected = np.concatenate([tested.rejected, outside.rejected])
    return Images(labels.astype(np.int64), softmax(logits, axis=1), rejected)


def report(images: Images, held_out: HeldOut, num_slides: int) -> None:
    """Draw slides, count each in every way, and print how often and how closely they hold."""
    ways = ("no review", "100 at random", "100 rejected first", "100 accepted first", "all")
    found: dict[str, list[tuple[Differential, NDArray[np.float64]]]] = {way: [] for way in ways}
    for seed in range(num_slides):
        rng = np.random.default_rng(seed)
        shares, rows = draw_slide(images, rng)
        for way, reviewed in zip(ways, orders(images, rows, rng), strict=True):
            found[way].append((count(images, rows, reviewed, held_out), shares))
    known = [c for c in range(len(NAMES)) if (images.labels == c).any()]
    print(f"{num_slides} slides of {NUM_OBJECTS} objects, {len(known)} classes")
    print("| review | all intervals hold | classes held | mean width, % | removed | widths, % |")
    print("|---|--:|--:|--:|--:|---|")
    most, least = (mean_width(found[way], known) for way in (ways[0], ways[-1]))
    for way, counted in found.items():
        inside = np.array([[covers(one, shares, c) for c in known] for one, shares in counted])
        widths = 100 * np.array(
            [[one.shares[c].high - one.shares[c].low for c in known] for one, _ in counted]
        )
        each = ", ".join(
            f"{NAMES[c]} {width:.1f}" for c, width in zip(known, widths.mean(0), strict=True)
        )
        removed = (most - widths.mean()) / (most - least)
        print(
            f"| {way} | {inside.all(1).sum()} | {inside.mean():.3f} | {widths.mean():.1f} | "
            f"{removed:.0%} | {each} |"
        )


def orders(
    images: Images, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """Return which objects of a slide are reviewed, for each way of reviewing."""
    certain, rejected = images.chances[rows].max(1), images.rejected[rows]
    by_doubt = np.argsort(certain - rejected)
    accepted_first = np.argsort(certain + rejected)
    some = rng.permutation(len(rows)), by_doubt, accepted_first
    return by_doubt[:0], *(order[:NUM_REVIEWED] for order in some), by_doubt


def mean_width(counted: list[tuple[Differential, NDArray[np.float64]]], known: list[int]) -> float:
    """Return the mean width of the intervals of some classes, in percent."""
    widths = [one.shares[c].high - one.shares[c].low for one, _ in counted for c in known]
    return float(100 * np.mean(widths))


def draw_slide(
    images: Images, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw blood and a slide of it.

    Returns:
        The true number of each class (11,) per white cell, and the rows of the slide's images.
    """
    white = np.zeros(len(NAMES))
    for name, percent in TYPICAL.items():
        white[NAMES.index(name)] = rng.standard_gamma(SPREAD * percent / 100)
    white /= white.sum()
    red, platelets = rng.uniform(0, MOST_RED), rng.uniform(0, MOST_PLATELETS)
    parts = np.append(white * (1 - red - platelets), platelets)
    parts[ERYTHROBLAST] = red
    labels = [*range(len(NAMES)), PLATELET]
    rows = [
        rng.choice(np.flatnonzero(images.labels == label), number)
        for label, number in zip(labels, rng.multinomial(NUM_OBJECTS, parts), strict=True)
        if number
    ]
    shares = parts[:-1] / (1 - red - platelets)
    return shares, np.concatenate(rows)


def count(
    images: Images, rows: NDArray[np.int64], reviewed: NDArray[np.int64], held_out: HeldOut
) -> Differential:
    """Count a slide as the page does; a platelet that is reviewed leaves it."""
    names = np.full(len(rows), UNKNOWN)
    names[reviewed] = images.labels[rows[reviewed]]
    gone = np.zeros(len(rows), bool)
    gone[reviewed] = images.labels[rows[reviewed]] == PLATELET
    kept = rows[~gone]
    return differential(
        images.chances[kept],
        held_out,
        corrections=names[~gone],
        rejected=images.rejected[kept],
    )


def covers(found: Differential, shares: NDArray[np.float64], label: int) -> bool:
    """Return whether a class's interval contains its true number per white cell."""
    share = found.shares[label]
    assert CLASSES[label].is_white or label == ERYTHROBLAST
    return bool(share.low <= shares[label] <= share.high)


if __name__ == "__main__":
    main()
