"""The F1 heat map shows every method's value in its cell and highlights the best."""

import pytest
from matplotlib.colors import to_hex

from hf_wbc.plots.confusion import ABSENT, draw_class_f1
from hf_wbc.taxonomy import NAMES


def weights(figure) -> dict[str, str]:
    return {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}


def test_every_number_is_in_its_row_and_column():
    table = {"dann": {"monocyte": 0.25, "basophil": 0.5}, "coral": {"monocyte": 0.75}}
    figure = draw_class_f1(table, {"dann": 0.375, "coral": 0.75})
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert int(places["0.25"][1]) == int(places["0.50"][1]) == 0
    assert int(places["–"][1]) == 1
    assert places["0.50"][0] == places["–"][0] < places["0.25"][0]


def test_best_value_of_a_column_is_bold():
    table = {"dann": {"monocyte": 0.25}, "coral": {"monocyte": 0.31}}
    found = weights(draw_class_f1(table, {"dann": 0.9, "coral": 0.1}))
    assert found["0.31"] == found["0.90"] == "bold"
    assert found["0.25"] == found["0.10"] == "normal"


def test_missing_score_is_gray_and_zero_is_not():
    table = {"dann": {"monocyte": 0.0, "basophil": 0.5}, "coral": {"monocyte": 0.75}}
    boxes = draw_class_f1(table, {"dann": 0.3, "coral": 0.7}).axes[0].patches
    squares = [box for box in boxes if box.get_width() == box.get_height() == 1]
    gray = [box for box in squares if to_hex(box.get_facecolor()) == ABSENT]
    assert len(squares) == 6
    assert len(gray) == 1


def test_many_methods_and_all_classes_stay_legible(legible):
    table = {f"method_{i}": {name: i / 30 for name in NAMES} for i in range(24)}
    words = legible(draw_class_f1(table, dict.fromkeys(table, 0.5)))
    assert {"method_23", "segmented neutrophil", "macro-F1"} <= set(words)


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw_class_f1({}, {})
