"""Tables of laboratories compare like with like, and the pages show what the records say."""

from dataclasses import replace
from pathlib import Path

import pytest

from hf_wbc.cli.laboratory_table import RECORDS, rendered
from hf_wbc.comparison.laboratory_rows import LaboratoryScore, read_scores
from hf_wbc.comparison.laboratory_table import END, START, render_tables, replace_tables

ROOT = Path(__file__).resolve().parents[2]
SCORE = LaboratoryScore(
    row="robust",
    sources=("a",),
    laboratory="b",
    images="all",
    num_images=1200,
    classes=("eosinophil", "monocyte"),
    merge=(),
    seed=0,
    macro_f1=0.4,
    low=0.3,
    high=0.5,
    network="net",
    budget="6 x 32 at 96 px",
    run="0123",
    command="hf-wbc train",
)


def lines(*scores: LaboratoryScore) -> list[list[str]]:
    """Return the cells of all table rows after the head."""
    rows = [line.split("|")[1:-1] for line in render_tables(scores).splitlines() if "|" in line]
    return [[cell.strip() for cell in row] for row in rows if row[0].strip() not in ("row", "---")]


def test_pages_match_the_records() -> None:
    scores = read_scores(ROOT / RECORDS)
    assert scores
    for page, text in rendered(ROOT, scores).items():
        assert page.read_text(encoding="utf-8") == text, "python -m hf_wbc.cli.laboratory_table"


def test_row_is_mean_over_seeds_and_last_column_over_laboratories() -> None:
    second = replace(SCORE, seed=1, macro_f1=0.6, low=0.5, high=0.7)
    elsewhere = [replace(each, laboratory="c", macro_f1=0.2) for each in (SCORE, second)]
    home = replace(SCORE, laboratory="a", macro_f1=0.9)
    (row,) = lines(SCORE, second, *elsewhere, home)
    assert row[2:] == [
        "2", ".900 [.300, .500]", ".500 [.400, .600]", ".200 [.400, .600]", ".350 ± .071"
    ]  # fmt: skip


def test_scores_of_other_images_or_classes_have_separate_columns() -> None:
    fewer = replace(SCORE, row="plain", images="test", num_images=60)
    first, second = lines(SCORE, fewer)
    assert first[3:] == [".400 [.300, .500]", "–", "–"]
    assert second[3:] == ["–", ".400 [.300, .500]", "–"]


def test_single_source_and_leave_one_out_are_separate_tables() -> None:
    left_out = [
        replace(SCORE, sources=("a", "c"), laboratory="b"),
        replace(SCORE, sources=("a", "b"), laboratory="c", run="4567"),
    ]
    text = render_tables([SCORE, *left_out])
    assert "Trained on a alone" in text and "all of a, b, c except" in text
    assert [len(row) for row in lines(SCORE, *left_out)] == [5, 6]


def test_two_runs_of_one_seed_are_reported() -> None:
    with pytest.raises(ValueError, match=r"0123.*4567"):
        render_tables([SCORE, replace(SCORE, run="4567")])


def test_tables_replace_text_between_markers() -> None:
    page = f"before\n{START}\nold\n{END}\nafter\n"
    assert replace_tables(page, "new") == f"before\n{START}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no line"):
        replace_tables("before", "new")
