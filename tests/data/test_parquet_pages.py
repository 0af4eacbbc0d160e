"""Pages whose headers state gigabytes are refused before a reader takes the memory."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.data.parquet_pages import stated_page_bytes
from hf_wbc.data.parquet_tables import iter_batches, read_table


def chunk_of(path: Path) -> tuple[int, int]:
    """Return the place and the bytes of the first column chunk."""
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    return start, chunk.total_compressed_size


@pytest.mark.parametrize(
    ("version", "compression", "is_text"),
    [
        ("1.0", "none", False),
        ("1.0", "zstd", True),
        ("2.0", "snappy", True),
        ("2.0", "gzip", False),
    ],
)
def test_sum_is_what_was_written(
    version: str, compression: str, is_text: bool, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(0).integers(0, 10**9, 5000)
    column = pa.array([f"cell {n}" * 9 for n in numbers]) if is_text else pa.array(numbers)
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"a": column}), path, data_page_version=version, compression=compression,
        data_page_size=512, write_page_checksum=True,
    )  # fmt: skip
    chunk = pq.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as file:
        found = stated_page_bytes(file, *chunk_of(path))
    assert found == pytest.approx(chunk.total_uncompressed_size, rel=0.05)
    assert found <= chunk.total_uncompressed_size
    assert read_table(path).column("a").equals(pa.chunked_array([column]))


def with_stated_size(path: Path, num_bytes: int) -> None:
    """Let the header of the first page state another uncompressed size, of as many digits."""
    data = bytearray(path.read_bytes())
    start, _ = chunk_of(path)
    at = data.index(b"\x15", start + 2) + 1  # field 1 is a type; 2 is the size
    value, digits = num_bytes << 1, []
    while value:
        digits.append(value & 127 | 128)
        value >>= 7
    digits[-1] &= 127
    length = next(n for n in range(1, 6) if data[at + n - 1] < 128)
    assert length == len(digits)
    data[at : at + length] = bytes(digits)
    path.write_bytes(data)


def test_sizes_of_several_pages_are_added() -> None:
    """Two headers: a type, 2 GiB - 1 uncompressed, 3 bytes compressed, then 3 bytes of data."""
    page = b"\x15\x00\x15\xfe\xff\xff\xff\x0f\x15\x06\x00abc"
    file = io.BytesIO(b"PAR1" + 2 * page)
    assert stated_page_bytes(file, 4, 2 * len(page)) == 2 * (2**31 - 1)
    with pytest.raises(ValueError, match="header of a page is damaged"):
        stated_page_bytes(file, 4, 2 * len(page) + 1)


@pytest.mark.slow
@pytest.mark.ci
def test_page_that_states_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array([b"\0" * 2**27])
    pq.write_table(pa.table({"a": text}), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 10**5
    with_stated_size(path, 2**31 - 1)
    with pytest.raises(ValueError, match=r"a\.parquet would take more than 268 MB"):
        read_table(path)
    with pytest.raises(ValueError, match=r"a\.parquet would take more than 268 MB"):
        list(iter_batches(path, ["a"], 128))


@pytest.mark.parametrize("damage", [b"\0", b"\xff" * 40, b"\x15\x00\x15", b"\x1c" * 60])
def test_damaged_header_is_reported(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": pa.array(range(1000))}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    start, _ = chunk_of(path)
    data[start : start + len(damage)] = damage
    path.write_bytes(data)
    with pytest.raises((ValueError, OSError, pa.ArrowException)):
        read_table(path)
