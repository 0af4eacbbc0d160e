"""The lineage diagram shows the eleven classes in order of maturation."""

from math import hypot

import pytest

from hf_wbc.plots.cells import LOOKS
from hf_wbc.plots.lineage import draw_lineage
from hf_wbc.taxonomy import CLASSES, NAMES


def test_diagram_names_every_class_lineage_and_stage(legible):
    words = legible(draw_lineage())
    flat = [text.replace("\n", " ") for text in words]
    for i, cell in enumerate(CLASSES):
        assert cell.clinical_name in flat
        assert flat.count(f"class {i}") == 1
        assert cell.lineage in flat
    assert [text for text in words if text.isdigit()] == ["1", "2", "3", "4", "5", "6"]


def test_every_class_has_a_look():
    assert set(LOOKS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nucleus_lies_inside_its_cell(name):
    look = LOOKS[name]
    for x, y, radius in (*look.nucleus, *look.vacuoles):
        assert hypot(x, y) + radius < 0.97
    for x, y, radius in look.nucleoli:
        assert min(hypot(x - a, y - b) + radius - r for a, b, r in look.nucleus) < 0


def test_cell_sizes_are_realistic():
    size = {name: look.diameter_um for name, look in LOOKS.items()}
    assert all(7 < um < 21 for um in size.values())
    assert max(size, key=size.__getitem__) == "promyelocyte"
    assert min(size, key=size.__getitem__) == "lymphocyte_typical"
