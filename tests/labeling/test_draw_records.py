"""The file of simulated labelings: it gives back what was written, and a simulation resumes it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hf_wbc.labeling.draw_records import append_draw, read_draws, write_draws
from hf_wbc.labeling.pool import Pool
from hf_wbc.labeling.simulate import Draw, paired_gaps, simulate
from tests.support.shifted_laboratory import laboratory, source_head

DRAW = Draw(
    "abc", "lab", "lab", 90, 3, "random", "logistic", 50, 0.5, 0.25, 0.75, True, 0.5, 0.25, 0.75
)  # fmt: skip


def test_draws_round_trip(tmp_path: Path) -> None:
    draws = [DRAW, replace(DRAW, seed=4, is_adapted=False, estimate=None, low=None, high=None)]
    path = tmp_path / "new" / "draws.csv"
    assert read_draws(path) == []
    write_draws(path, draws)
    assert read_draws(path) == draws
    assert [each.holds(0.5) for each in draws] == [True, None]


def test_processes_append_without_losing_draws_of_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "draws.csv"
    name = '=cmd|"/c calc"!A1'
    draws = [replace(DRAW, seed=seed, laboratory=name, cells=name) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(append_draw, path), [*draws, draws[0]]))
    assert sorted(read_draws(path), key=lambda draw: draw.seed) == draws
    assert ",=" not in path.read_text() and ',"=' not in path.read_text()


@pytest.mark.parametrize(("old", "new"), [(",50,", ",fifty,"), (",0.5000,", ",?,"), (",1,", ",,")])
def test_damaged_line_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "draws.csv"
    write_draws(path, [DRAW])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        read_draws(path)


@pytest.mark.slow
@pytest.mark.ci
def test_known_draws_are_skipped_and_the_others_stay_the_same() -> None:
    cells = Pool(**{**vars(laboratory(90)), "facts": {"model": "sha256:0123456789abcdef"}})

    def draw(**options: object) -> list[Draw]:
        how = {"strategies": ("random", "margin"), "budgets": (15, 20), "seeds": 1, **options}
        return list(simulate(cells, source_head(), **how))  # type: ignore[arg-type]

    whole = draw()
    assert len(whole) == 4 and {each.model for each in whole} == {"0123456789ab"}
    assert draw(known={each.key for each in whole}) == []
    first, *others = whole
    assert draw(known={first.key}) == others
    assert len(draw(known={replace(first, num_cells=91).key})) == 4


def test_gaps_are_paired_by_cells_and_seed() -> None:
    other = [replace(DRAW, seed=seed, macro_f1=seed / 10) for seed in (5, 3)]
    mine = [replace(DRAW, seed=seed, macro_f1=0.75) for seed in (3, 4, 5)]
    assert paired_gaps(mine, other).tolist() == pytest.approx([0.45, 0.25])
    assert len(paired_gaps([replace(DRAW, cells="b")], other)) == 0
