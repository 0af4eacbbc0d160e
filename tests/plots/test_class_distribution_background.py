"""The background-leak figure shows the given numbers."""

import pytest

from hf_wbc.plots.class_distribution import draw_background
from hf_wbc.plots.class_names import display_name
from hf_wbc.taxonomy import NAMES


def test_every_class_has_a_dot_at_its_recall(legible):
    recall = [i / 10 for i in range(11)]
    intervals = [(max(0, r - 0.05), min(1, r + 0.05)) for r in recall]
    figure = draw_background(NAMES, recall, intervals, range(1000, 12000, 1000), 1 / 11)
    words = legible(figure)
    assert {"chance 9%", "1,000", "11,000", display_name("myeloblast")} <= set(words)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(float(dot.get_xdata()[0]) for dot in dots) == pytest.approx(recall)


def test_two_classes_suffice(legible):
    names = ["monocyte", "basophil"]
    figure = draw_background(names, [1.0, 0.2], [(0.9, 1.0), (0.1, 0.3)], [5, 7], 0.5)
    words = [word for word in legible(figure) if word in names]
    assert words == ["basophil", "monocyte"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.2, 1.0]
