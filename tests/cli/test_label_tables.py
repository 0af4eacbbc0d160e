"""docs/labeling.md shows what the draws in docs/label_simulations.csv say."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from hf_wbc.cli.label_tables import FIGURE, PAGE, RECORDS, render, rendered
from hf_wbc.labeling.draw_records import read_draws

ROOT = Path(__file__).resolve().parents[2]


def test_page_matches_the_records() -> None:
    draws = read_draws(ROOT / RECORDS)
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert draws and page == rendered(ROOT, draws), "python -m hf_wbc.cli.label_tables"
    better = [replace(each, macro_f1=each.macro_f1 / 2) for each in draws]
    assert page != rendered(ROOT, better)


def test_benchmark_has_all_repetitions_of_one_model() -> None:
    draws = read_draws(ROOT / RECORDS)
    assert len({each.key for each in draws}) == len(draws)
    assert len({each.model for each in draws}) == 1
    for first, num in ((0, 20), (1000, 100)):
        seeds: dict[tuple[str, str, int], set[int]] = {}
        for each in draws:
            if each.head == "logistic" and (each.seed >= 1000) == (first == 1000):
                kind = each.laboratory, each.strategy, each.budget
                seeds.setdefault(kind, set()).add(each.seed)
        expected = set(range(first, first + num))
        assert seeds and all(found == expected for found in seeds.values()), seeds


@pytest.mark.slow
@pytest.mark.ci
def test_figure_is_drawn_from_the_records(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in (PAGE, RECORDS):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    render(tmp_path)
    with Image.open(tmp_path / FIGURE) as new, Image.open(ROOT / FIGURE) as old:
        assert new.size == old.size
        gaps = ImageChops.difference(new.convert("L"), old.convert("L")).histogram()
    assert sum(gaps[64:]) < 0.002 * new.width * new.height  # other versions smooth edges otherwise
