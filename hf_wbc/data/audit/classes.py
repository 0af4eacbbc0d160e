"""Who has which classes, in which split, and how far domains differ in it."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.audit.read import Reading
from hf_wbc.data.schema import SPLITS
from hf_wbc.taxonomy import NAMES, NUM_CLASSES


def class_counts(reading: Reading) -> NDArray[np.int64]:
    """Labelled images (folders, splits, 11)."""
    counts = np.zeros((len(reading.folders), len(SPLITS), NUM_CLASSES), dtype=np.int64)
    labelled = reading.labels >= 0
    places = (reading.folder[labelled], reading.split[labelled], reading.labels[labelled])
    np.add.at(counts, places, 1)
    return counts


def by_domain(reading: Reading) -> dict[str, dict[str, int]]:
    """{domain: {class name: images}}, for domains with labels."""
    counts = class_counts(reading).sum(axis=1)
    return {
        folder.name: dict(zip(NAMES, row.tolist(), strict=True))
        for folder, row in zip(reading.folders, counts, strict=True)
        if row.sum()
    }


def missing_in_splits(reading: Reading, folder: int) -> dict[str, tuple[int, list[str]]]:
    """Classes that a folder has and one of its splits lacks: {class: (images, splits)}."""
    counts = class_counts(reading)[folder]
    return {
        NAMES[label]: (
            int(counts[:, label].sum()),
            [split for split, of in zip(SPLITS, counts, strict=True) if not of[label]],
        )
        for label in range(NUM_CLASSES)
        if counts[:, label].any() and not counts[:, label].all()
    }


def prior_distances(reading: Reading) -> dict[tuple[str, str], float]:
    """Total variation distance of the class shares of each two labelled domains, 0 to 1."""
    shares = {
        name: np.array([counts[cell] for cell in NAMES]) / sum(counts.values())
        for name, counts in by_domain(reading).items()
    }
    return {
        (one, other): float(np.abs(shares[one] - shares[other]).sum() / 2)
        for one, other in combinations(shares, 2)
    }
