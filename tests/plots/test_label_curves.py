"""The picture of learning curves shows every laboratory and every strategy."""

from pathlib import Path

from PIL import Image

from hf_wbc.plots.label_curves import label_curves


def test_each_laboratory_gets_a_panel(tmp_path: Path) -> None:
    rows = [
        {
            "laboratory": laboratory, "strategy": strategy, "budget": budget,
            "macro_f1": 0.5 + budget / 200, "interval": (0.4, 0.9), "zero_shot": 0.4,
            "num_draws": 20, "num_cells": 300,
        }
        for laboratory in ("a", "b")
        for strategy in ("margin", "random")
        for budget in (10, 50)
    ]  # fmt: skip
    label_curves(rows, tmp_path / "x" / "curves.png")
    with Image.open(tmp_path / "x" / "curves.png") as image:
        assert image.width > 2 * image.height
        colors = image.convert("RGB").getcolors(1 << 24)
    assert colors is not None
    assert {(0, 114, 178), (213, 94, 0)} <= {color for _, color in colors}
