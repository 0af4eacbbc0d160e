"""The table in README and docs is what its result files say, and drawn patients share no cell."""

import numpy as np

from hf_wbc.cli.benchmark_table import FOLDER, NAMES, PAGES, ROOT, draw_patients, with_table
from hf_wbc.hub.leaderboard import markdown_table, read_leaderboard


def test_tables_are_rendered_from_the_result_files() -> None:
    board = read_leaderboard(FOLDER)
    assert not board.left_out and {row.model for row in board.rows} <= set(NAMES)
    table = markdown_table(board, NAMES)
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert with_table(text) == text and table in text


def test_no_cell_is_in_two_drawn_patients() -> None:
    labels = np.tile(np.arange(11), 300)
    rows, names = draw_patients(labels, 0)
    assert len(np.unique(rows)) == rows.size == 60 * 40
    immature = np.isin(labels[rows], [4, 5, 6, 7]).mean(1)
    shifted = np.array([name == "left shift" for name in names.values()])
    assert immature[shifted].mean() > 0.25 > 0.17 > immature[~shifted].mean()
