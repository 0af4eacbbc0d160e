"""Cell maps show every kind with its color, its count, and a legend entry."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hf_wbc.plots.cell_map import (
    CLASS_COLORS,
    DOMAIN_COLORS,
    draw_classes_map,
    draw_domains_map,
)
from hf_wbc.plots.class_names import LINEAGES
from hf_wbc.taxonomy import NAMES

XY = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


def test_legend_counts_every_present_class(legible):
    labels = np.array([0] * 25 + [9] * 12 + [-1] * 3)
    words = legible(draw_classes_map(XY, labels))
    assert words[-1] == "3" or "3" in words
    assert {"basophil", "25", "monocyte", "12", "no label", "3"} <= set(words)
    assert "eosinophil" not in words


def test_eleven_classes_and_unlabeled_cells_fit(legible):
    labels = np.arange(40) % 12 - 1
    words = legible(draw_classes_map(XY, labels))
    assert "no label" in words and "lymphocyte" in words


def test_every_domain_has_its_color(legible):
    names = [f"laboratory_{i}" for i in range(len(DOMAIN_COLORS))]
    figure = draw_domains_map(XY, np.arange(40) % len(names), names)
    assert set(names) <= set(legible(figure))
    (points,) = figure.axes[0].collections
    drawn = {tuple(np.round(color[:3], 6)) for color in points.get_facecolors()}
    assert drawn == {tuple(np.round(to_rgb(color), 6)) for color in DOMAIN_COLORS}


def test_points_keep_class_colors_when_reordered():
    labels = (XY[:, 0] > 0).astype(int)
    (points,) = draw_classes_map(XY, labels).axes[0].collections
    for (x, _), color in zip(points.get_offsets(), points.get_facecolors(), strict=True):
        assert np.allclose(color[:3], to_rgb(CLASS_COLORS[NAMES[int(x > 0)]]))


def test_rare_classes_are_drawn_on_top_and_unlabeled_below():
    xy = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = np.array([9, *[0] * 99, *[1] * 90, *[-1] * 10])
    (points,) = draw_classes_map(xy, labels).axes[0].collections
    order = [int(np.flatnonzero((xy == place).all(axis=1))[0]) for place in points.get_offsets()]
    assert order[-1] == 0
    assert set(order[:10]) == set(range(190, 200))


def test_class_colors_differ_and_follow_lineages():
    assert set(CLASS_COLORS) == set(NAMES)
    assert len(set(CLASS_COLORS.values())) == len(NAMES)
    assert CLASS_COLORS["erythroblast"] == LINEAGES["erythroid"]


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match="3 cells and points of shape"):
        draw_classes_map(XY, np.zeros(3, int))
    with pytest.raises(ValueError, match="a map needs"):
        draw_classes_map(XY[:0], np.zeros(0, int))
    names = [str(i) for i in range(len(DOMAIN_COLORS) + 1)]
    with pytest.raises(ValueError, match="fewer at a time"):
        draw_domains_map(XY, np.zeros(40, int), names)
