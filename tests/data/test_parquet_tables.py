"""A small Parquet file cannot take much memory, and others are read as pyarrow reads them."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.data import parquet_tables
from hf_wbc.data.parquet_tables import iter_batches, read_table

LIMIT = 2**20


def repeated_text() -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(500, "i4")), pa.array([b"x" * 10**4]))


def text_in_struct() -> pa.Array:
    return pa.StructArray.from_arrays([repeated_text().cast(pa.binary())], ["bytes"])


def long_list() -> pa.Array:
    return pa.array([np.zeros(10**6, "f4")], pa.list_(pa.float32()))


def equal_numbers() -> pa.Array:
    return pa.array(np.zeros(10**6, "i8"))


@pytest.mark.parametrize("column", [repeated_text, text_in_struct, long_list, equal_numbers])
def test_file_that_expands_without_end_is_refused(
    column: Callable[[], pa.Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_tables, "MIN_EXPANDED_BYTES", LIMIT)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": column()}), path, store_schema=False, compression="zstd")
    assert 200 * path.stat().st_size < pq.read_table(path).nbytes > 2 * LIMIT
    with pytest.raises(ValueError, match=rf"a\.parquet .* {path.stat().st_size:,} bytes"):
        read_table(path)
    with pytest.raises(ValueError, match=r"a\.parquet"):
        list(iter_batches(path, ["a"], 128))


def test_tables_are_read_as_pyarrow_reads_them(tmp_path: Path) -> None:
    rows = {
        "name": ["a", None, "c"],
        "look": [[1.0, 2.0], [], [3.0]],
        "features": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype="f4")), 2),
        "image": [{"bytes": b"x", "path": None}] * 3,
        "a.b": [True, False, None],
    }
    table = pa.table(rows).replace_schema_metadata({"hf_wbc": "{}"})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=2)
    assert read_table(path).equals(pq.read_table(path), check_metadata=True)
    chosen = read_table(path, ["look", "absent", "name"])
    assert chosen.equals(pq.read_table(path, columns=["look", "name"]))
    batches = list(iter_batches(path, ["image"], 1))
    assert [len(batch) for batch in batches] == [1, 1, 1]
    pq.write_table(table[:0], path)
    assert read_table(path).equals(pq.read_table(path))


def test_files_of_strangers_are_read_within_bounds() -> None:
    own = {"features.py", "batch_predict.py"}  # caches that this machine wrote
    own |= {"parquet_tables.py", "gallery.py"}  # checks the stated size as well
    rooms = Path(parquet_tables.__file__).parents[1]
    for room in ("data", "engine", "inference", "comparison"):
        for path in (rooms / room).rglob("*.py"):
            unbounded = re.search(r"pq\.read_table\(|ParquetFile\(", path.read_text("utf-8"))
            assert path.name in own or not unbounded, path
