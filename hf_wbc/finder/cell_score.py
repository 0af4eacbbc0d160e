"""Tell white cells from platelets, clumps, dirt and drawings by measurements of their nuclei.

A logistic regression over a few measurements and their squares; `tests/bench/find_cells.py` fits it
to the boxes of a development set and prints the weights in `cell_score.json`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.finder.nuclei_mask import Region

NAMES = (
    "log_diameter", "strength", "red", "blue_share", "texture", "fill", "near", "far", "edge",
)  # fmt: skip
"""Measurements of a nucleus, in the order of the vector."""
NEAR_UM, FAR_UM = 1.5, 3.5
"""Outer distance in um of the two rings around a nucleus in which the cytoplasm is measured."""


def measure(
    region: Region,
    strength: NDArray[np.float32],
    density: NDArray[np.float32],
    um_per_px: float,
    is_at_edge: bool,
) -> NDArray[np.float64]:
    """Measure a nucleus.

    Args:
        region: The nucleus.
        strength: Strength of the stain of the field (H, W).
        density: Optical densities of the field (H, W, 3).
        um_per_px: Scale of both in um per pixel.
        is_at_edge: Whether the field's border cuts the nucleus.

    Returns:
        The measurements in the order of `NAMES`.
    """
    from scipy import ndimage

    margin = int(np.ceil(FAR_UM / um_per_px)) + 1
    rows, columns = region.place
    top, left = max(rows.start - margin, 0), max(columns.start - margin, 0)
    place = slice(top, rows.stop + margin), slice(left, columns.stop + margin)
    around, colors = strength[place], density[place]
    mask = np.zeros(around.shape, bool)
    mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
        region.mask
    )
    distance = ndimage.distance_transform_edt(~mask) * um_per_px
    near = (distance > 0) & (distance <= NEAR_UM)
    far = (distance > NEAR_UM) & (distance <= FAR_UM)
    inside = around[mask]
    means = colors[mask].mean(0)
    hull = _hull_area(region)
    return np.array(
        [
            np.log(2 * (region.area / np.pi) ** 0.5 * um_per_px),
            inside.mean(),
            means[0],
            means[2] / max(float(means[:2].mean()), 1e-3),
            inside.std() / max(float(inside.mean()), 1e-3),
            region.area / hull,
            around[near].mean() / max(float(inside.mean()), 1e-3) if near.any() else 0.0,
            around[far].mean() / max(float(inside.mean()), 1e-3) if far.any() else 0.0,
            float(is_at_edge),
        ]
    )


def score_cells(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability (N,) that each measured nucleus (N, K) is a white cell's."""
    weights = _weights()
    values = expand(measured)
    standard = (values - np.array(weights["mean"])) / np.array(weights["scale"])
    logit = standard @ np.array(weights["weights"]) + weights["intercept"]
    chance: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logit, -50, 50)))
    return chance


def expand(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the squares of all measurements (N, K) but the last, which is 0 or 1."""
    return np.concatenate([measured, measured[:, :-1] ** 2], axis=1)


@cache
def _weights() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    return found


def _hull_area(region: Region) -> float:
    from scipy.spatial import ConvexHull, QhullError

    corners = np.concatenate(
        [np.add(region.outline, shift) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))]
    )
    try:
        return float(ConvexHull(corners).volume)
    except QhullError:
        return float(region.area)
