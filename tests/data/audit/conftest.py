"""Tiny prepared folders, read once, and ways to plant in them what an audit must find."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.data.audit.read import Folder, Reading

Row = dict[str, Any]


@pytest.fixture
def edit_rows() -> Callable[[Path, str, Callable[[list[Row]], list[Row]]], None]:
    """Rewrites one split of a prepared folder."""
    return _edit_rows


def _edit_rows(folder: Path, split: str, change: Callable[[list[Row]], list[Row]]) -> None:
    (path,) = (folder / "cropped").glob(f"{split}-*.parquet")
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


@pytest.fixture
def make_reading() -> Callable[..., Reading]:
    """A reading of N cells without any file; see `_make_reading`."""
    return _make_reading


def _make_reading(
    labels: Sequence[int],
    *,
    folder: Sequence[int] | None = None,
    split: Sequence[int] | None = None,
    groups: Sequence[str | None] | None = None,
    digests: Sequence[str] | None = None,
    size_px: Sequence[tuple[int, int]] | None = None,
    border: np.ndarray | None = None,
    provenance: dict[str, Any] | None = None,
    um_per_px: float | None = 0.1,
) -> Reading:
    """Random cells, all unlike; folders are called a, b ..., cells cell_0, cell_1 ..."""
    num, rng = len(labels), np.random.default_rng(0)
    folder = np.zeros(num, int) if folder is None else np.array(folder)
    names = "abc"[: folder.max() + 1]
    return Reading(
        folders=tuple(
            Folder(name, name, "original", um_per_px, provenance or {}, ()) for name in names
        ),
        folder=folder,
        split=np.zeros(num, int) if split is None else np.array(split),
        labels=np.array(labels),
        image_ids=[f"cell_{row}" for row in range(num)],
        groups=list(groups or [None] * num),
        digests=list(digests or map(str, range(num))),
        size_px=np.array(size_px or [(360, 363)] * num, dtype=np.int32),
        scene=np.zeros((num, 48, 48), np.uint8),
        square=np.zeros((num, 48, 48), np.uint8),
        small=rng.integers(0, 256, (num, 32, 32, 3)).astype(np.uint8),
        border=rng.normal(size=(num, 18)).astype(np.float32) if border is None else border,
        background=np.full((num, 3), 220, np.float32),
        cell=np.full((num, 3), 120, np.float32),
        contrast=np.arange(num, dtype=np.float32),
        sharpness=np.ones(num, np.float32),
    )
