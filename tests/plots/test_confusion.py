"""A confusion matrix shows row fractions, counts, and the recorded scores."""

import numpy as np
from matplotlib.colors import to_hex, to_rgba
from matplotlib.patches import Rectangle

from hf_wbc.evaluation.metrics import score
from hf_wbc.plots.class_names import LINEAGES, lineage_order
from hf_wbc.plots.confusion import ABSENT, draw_confusion
from hf_wbc.taxonomy import CLASSES, NAMES, class_id

BANDS = "neutrophil_banded=neutrophil_segmented"


def squares(figure):
    """Return the colors of the unit squares by (row, column)."""
    boxes = [box for box in figure.axes[0].findobj(Rectangle) if box.get_fill()]
    unit = [box for box in boxes if box.get_width() == box.get_height() == 1]
    return {(int(box.get_y()), int(box.get_x())): box.get_facecolor() for box in unit}


def test_row_fractions_and_counts_are_shown(legible):
    basophil, monocyte = class_id("basophil"), class_id("monocyte")
    scores = score([basophil] * 4 + [monocyte] * 1500, [basophil] * 3 + [monocyte] * 1501)
    words = legible(draw_confusion(scores, "toy"))
    assert {"75", "25", "100", "3", "1", "1,500", "toy"} <= set(words)
    assert any(text.startswith("macro-F1 0.928 over 2 classes") for text in words)


def test_small_share_is_not_shown_as_zero(legible):
    words = legible(draw_confusion(score([0] * 1000, [0] * 999 + [1])))
    assert "<1" in words
    assert "0" not in words[: words.index("<1")]


def test_all_eleven_classes_and_large_counts_stay_legible(legible):
    true, predicted = np.random.default_rng(0).integers(0, 11, (2, 60_000))
    words = legible(draw_confusion(score(true, predicted), "a long title of a run, here -> there"))
    assert all(cell.clinical_name in words for cell in CLASSES)


def test_rows_are_true_classes_and_darkness_follows_fraction():
    true, predicted = (
        [class_id("promyelocyte")] * 4,
        [class_id("promyelocyte")] * 3 + [class_id("myelocyte")],
    )
    faces = squares(draw_confusion(score(true, predicted)))
    row = [NAMES[i] for i in lineage_order(NAMES)].index("promyelocyte")
    assert sum(faces[row, row][:3]) < sum(faces[row, row + 1][:3]) < sum(faces[row, 0][:3])


def test_classes_without_images_are_gray():
    faces = squares(draw_confusion(score([0], [5])))
    rows = {row for (row, _), face in faces.items() if to_hex(face) == ABSENT}
    assert rows == set(range(1, 11))


def test_each_lineage_is_framed():
    figure = draw_confusion(score([0], [0]))
    frames = [box for box in figure.axes[0].findobj(Rectangle) if not box.get_fill()]
    found = {box.get_edgecolor(): box.get_width() for box in frames}
    sizes = {name: sum(cell.lineage == name for cell in CLASSES) for name in LINEAGES}
    assert found == {to_rgba(LINEAGES[name]): size for name, size in sizes.items()}


def test_merged_classes_are_one_row_and_noted(legible):
    words = legible(draw_confusion(score([7, 8, 9], [8, 8, 9], merge=[BANDS])))
    assert "band neutrophil" not in words
    assert "neutrophil_banded is merged into neutrophil_segmented" in words
