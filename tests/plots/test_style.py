"""All figures share one style, and saving leaves no partial files."""

import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import hf_wbc.plots
from hf_wbc.plots.class_distribution import draw_class_matrix
from hf_wbc.plots.class_names import LINEAGES, lineage_order, lineage_runs
from hf_wbc.plots.html import png
from hf_wbc.plots.style import INK, contrast, ink_on, save
from hf_wbc.taxonomy import CLASSES, NAMES

# Machado et al. 2009, doi:10.1109/TVCG.2009.113, severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_lineage_colors_differ_for_the_color_blind(kind):
    seen = [np.array(BLINDNESS[kind]) @ np.array(to_rgb(c)) ** 2.2 for c in LINEAGES.values()]
    seen = [np.clip(color, 0, 1) ** (1 / 2.2) for color in seen]
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(a - b) > 0.2


def test_every_lineage_has_a_color():
    assert set(LINEAGES) == {cell.lineage for cell in CLASSES}


def test_contrast_matches_wcag():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("gray", np.linspace(0, 1, 9))
def test_text_has_contrast_on_any_color(gray):
    color = (gray, gray, gray)
    assert contrast(ink_on(color), color) > 3.9
    assert ink_on("white") == INK


def test_lineage_order_keeps_neutrophil_stages_in_a_row():
    ordered = [CLASSES[i] for i in lineage_order(NAMES)]
    stages = [cell.maturation for cell in ordered if cell.maturation]
    assert stages == [1, 2, 3, 4, 5, 6]
    lineages = [cell.lineage for cell in ordered]
    assert [name for name, _ in itertools.groupby(lineages)] == list(LINEAGES)


def test_lineage_runs_cover_each_row_once():
    names = [NAMES[i] for i in lineage_order(NAMES)]
    rows = [row for _, first, last in lineage_runs(names) for row in range(first, last + 1)]
    assert rows == list(range(len(NAMES)))
    assert lineage_runs(["monocyte"]) == [("monocytic", 0, 0)]


def drawn() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.text(0.2, 0.5, "cell")
    return figure


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_saved_figure_is_deterministic(tmp_path, name):
    save(drawn(), tmp_path / name)
    save(drawn(), tmp_path / ("again_" + name))
    assert (tmp_path / name).read_bytes() == (tmp_path / ("again_" + name)).read_bytes()


def test_settings_of_a_stranger_change_no_figure():
    counts = {"here": {"monocyte": 3}}
    plain = png(draw_class_matrix(counts))
    strange = {
        "text.usetex": True,
        "font.size": 30,
        "axes.facecolor": "red",
        "savefig.pad_inches": 9,
    }
    with rc_context(strange):
        assert png(draw_class_matrix(counts)) == plain


def test_every_drawing_function_uses_the_default_settings():
    names = [module.name for module in pkgutil.iter_modules(hf_wbc.plots.__path__)]
    modules = [importlib.import_module(f"hf_wbc.plots.{name}") for name in names]
    functions = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if inspect.signature(function).return_annotation is Figure and name[0] != "_"
    }
    assert len(functions) > 10
    assert [each.__name__ for each in functions if not hasattr(each, "__wrapped__")] == []


def test_svg_file_is_valid(tmp_path):
    save(drawn(), tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.jpg"])
def test_another_file_type_is_refused_and_not_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"use a \.png or \.svg file"):
        save(drawn(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_plots_leave_pyplot_state_unchanged():
    code = (
        "import sys, matplotlib, numpy as np;"
        "rc = matplotlib.rcParams; state = lambda: {k: rc[k] for k in rc if k != 'backend'};"
        "before = state();"
        "from hf_wbc.evaluation.metrics import score;"
        "from hf_wbc.plots.class_distribution import draw_class_matrix;"
        "from hf_wbc.plots.confusion import draw_confusion;"
        "from hf_wbc.plots.lineage import draw_lineage;"
        "from hf_wbc.plots.sample_sheet import Frame, draw_sample_sheet;"
        "draw_lineage(); draw_class_matrix({'a': {'monocyte': 3}});"
        "draw_confusion(score([0], [0]));"
        "draw_sample_sheet([Frame(np.zeros((9, 9, 3), np.uint8), 'monocyte', 'a', None)]);"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "assert state() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
