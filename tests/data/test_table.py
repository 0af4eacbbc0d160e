"""A table returns the requested rows, whatever chunks hold them."""

import numpy as np
import pytest
import torch

from hf_wbc.data.table import Table, concatenate, feature_table


def pixel_table(num: int, name: str, first: int = 0, num_chunks: int = 1) -> Table:
    """Return 2 x 2 px images whose values are their row numbers."""
    rows = np.arange(first, first + num, dtype=np.uint8)
    pixels = np.broadcast_to(rows[:, None, None, None], (num, 2, 2, 3)).copy()
    return Table(
        chunks=tuple(np.array_split(pixels, num_chunks)),
        labels=np.arange(num) % 11,
        domains=np.zeros(num, dtype=np.int64),
        image_ids=[f"{name}_{row}" for row in rows],
        domain_names=(name,),
    )


@pytest.mark.parametrize("num_chunks", [1, 2, 5])
def test_batch_returns_requested_rows_in_order(num_chunks: int) -> None:
    table = pixel_table(10, "a", num_chunks=num_chunks)
    batch = table.batch(np.array([9, 0, 3, 3, 5]))
    assert batch.dtype == torch.uint8
    assert batch.shape == (5, 2, 2, 3)
    assert batch[:, 1, 1, 2].tolist() == [9, 0, 3, 3, 5]


@pytest.mark.parametrize("row", [-1, 10])
def test_row_out_of_range_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match=r"must lie in 0\.\.9"):
        pixel_table(10, "a", num_chunks=2).batch(np.array([0, row]))


def test_concatenated_rows_keep_their_metadata() -> None:
    tables = [pixel_table(4, "a"), pixel_table(3, "b", first=4), pixel_table(2, "a", first=7)]
    table = concatenate(tables)
    assert len(table) == 9
    assert table.domain_names == ("a", "b")
    assert table.domains.tolist() == [0] * 4 + [1] * 3 + [0] * 2
    assert table.image_ids[5] == "b_5"
    assert table.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert table.batch(np.array([8, 4, 0]))[:, 0, 0, 0].tolist() == [8, 4, 0]


def test_features_are_float32_rows() -> None:
    features = np.arange(12, dtype=np.float64).reshape(4, 3)
    table = feature_table(features, np.array([0, 1, -1, 10]), ["w", "x", "y", "z"], "a")
    assert table.shape == (3,)
    assert not table.is_pixels
    batch = table.batch(np.array([2, 0]))
    assert batch.dtype == torch.float32
    assert batch.tolist() == [[6, 7, 8], [0, 1, 2]]


def test_pixels_and_features_cannot_be_concatenated() -> None:
    features = feature_table(np.zeros((4, 3)), np.zeros(4), ["w"] * 4, "a")
    with pytest.raises(ValueError, match="rows differ in shape or type"):
        concatenate([pixel_table(4, "a"), features])


def test_table_may_be_empty() -> None:
    table = feature_table(np.zeros((0, 3)), np.zeros(0), [], "a")
    assert len(table) == 0 and table.batch(np.zeros(0)).shape == (0, 3)
    both = concatenate([table, feature_table(np.ones((2, 3)), np.zeros(2), ["v", "w"], "b")])
    assert both.batch(np.array([1, 0])).sum() == 6


def test_inconsistent_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows with 3 labels"):
        feature_table(np.zeros((4, 3)), np.zeros(3), ["w"] * 4, "a")
    with pytest.raises(ValueError, match=r"labels must lie in -1\.\.10"):
        feature_table(np.zeros((1, 3)), np.array([11]), ["w"], "a")
    with pytest.raises(ValueError, match="no tables to concatenate"):
        concatenate([])
