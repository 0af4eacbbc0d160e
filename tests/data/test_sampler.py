"""Draws depend only on seed and step, and sample rows and cells as evenly as possible."""

import numpy as np
import pytest

from hf_wbc.data.sampler import Balance, Sampler

BALANCES: tuple[Balance, ...] = ("class_domain", "domain", "none")


def draw_indices(
    labels: np.ndarray, domains: np.ndarray, batch_size: int, balance: Balance, seed: int, step: int
) -> np.ndarray:
    return Sampler(labels, domains, balance, seed).draw(batch_size, step)


@pytest.fixture
def labels() -> np.ndarray:
    """Return three classes of 30, 5, and 1 rows, plus 14 of the first class in another domain."""
    return np.repeat([0, 1, 2, 0], [30, 5, 1, 14])


@pytest.fixture
def domains() -> np.ndarray:
    return np.repeat([0, 1], [36, 14])


@pytest.mark.parametrize("balance", BALANCES)
def test_draw_depends_only_on_seed_and_step(
    labels: np.ndarray, domains: np.ndarray, balance: Balance
) -> None:
    sampler = Sampler(labels, domains, balance, seed=3)
    forward = [sampler.draw(7, step) for step in range(40)]
    for step in (39, 0, 17):
        assert np.array_equal(sampler.draw(7, step), forward[step])
        assert np.array_equal(draw_indices(labels, domains, 7, balance, 3, step), forward[step])
    assert not np.array_equal(draw_indices(labels, domains, 7, balance, 4, 0), forward[0])


@pytest.mark.parametrize("balance", BALANCES)
def test_large_draw_equals_consecutive_small_draws(
    labels: np.ndarray, domains: np.ndarray, balance: Balance
) -> None:
    sampler = Sampler(labels, domains, balance, seed=0)
    small = [sampler.draw(6, step) for step in range(30)]
    assert np.array_equal(np.concatenate(small), sampler.draw(180, 0))


def test_unbalanced_draws_cover_every_row_once_per_epoch(
    labels: np.ndarray, domains: np.ndarray
) -> None:
    sampler = Sampler(labels, domains, "none", seed=0)
    rows = np.concatenate([sampler.draw(16, step) for step in range(50)]).reshape(-1, 50)
    assert (np.sort(rows, axis=1) == np.arange(50)).all()
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize(("balance", "num_cells"), [("domain", 2), ("class_domain", 4)])
def test_balanced_draws_sample_every_cell_equally(
    labels: np.ndarray, domains: np.ndarray, balance: Balance, num_cells: int
) -> None:
    rows = draw_indices(labels, domains, 60 * num_cells, balance, seed=0, step=2)
    cells = domains if balance == "domain" else labels + 3 * domains
    found, counts = np.unique(cells[rows], return_counts=True)
    assert len(found) == num_cells
    assert set(counts.tolist()) == {60}


@pytest.mark.parametrize("balance", BALANCES)
def test_row_repeats_only_after_all_others_of_its_cell(
    labels: np.ndarray, domains: np.ndarray, balance: Balance
) -> None:
    cells = {"none": 0 * labels, "domain": domains, "class_domain": labels + 3 * domains}[balance]
    rows = np.concatenate(
        [draw_indices(labels, domains, 25, balance, 1, step) for step in range(20)]
    )
    for cell in np.unique(cells):
        drawn, size = rows[cells[rows] == cell], int((cells == cell).sum())
        whole = drawn[: len(drawn) // size * size].reshape(-1, size)
        assert (np.sort(whole, axis=1) == np.flatnonzero(cells == cell)).all()


def test_small_batches_reshuffle_cells_every_round(labels: np.ndarray, domains: np.ndarray) -> None:
    firsts = [draw_indices(labels, domains, 4, "class_domain", 0, step)[0] for step in range(80)]
    assert len(set((labels + 3 * domains)[firsts].tolist())) == 4


def test_unlabeled_rows_cannot_be_balanced_by_class(domains: np.ndarray) -> None:
    labels = np.full(50, -1)
    with pytest.raises(ValueError, match="50 rows are unlabeled and cannot be balanced by class"):
        Sampler(labels, domains, "class_domain", 0)
    assert len(Sampler(labels, domains, "domain", 0).draw(8, 0)) == 8


def test_invalid_arguments_are_reported(labels: np.ndarray, domains: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown balance 'class'; choose from class_domain"):
        Sampler(labels, domains, "class", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed is -1"):
        Sampler(labels, domains, "none", -1)
    with pytest.raises(ValueError, match="no rows to sample"):
        Sampler(labels[:0], domains[:0], "none", 0)
