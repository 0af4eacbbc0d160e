"""Read Parquet files of strangers without letting a small one take all memory or disk space.

A column that repeats one value is stored as that value and a run length: a file of 300 bytes can
hold gigabytes, and its stated size does not tell. Here a file may hold at most `MAX_EXPANSION`
times its size, and so may its decompressed pages.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_wbc.data.decompress import MAX_EXPANSION, MIN_EXPANDED_BYTES
from hf_wbc.data.parquet_pages import stated_page_bytes

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["iter_batches", "read_table"]

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value by physical type."""
_TEXT = "BYTE_ARRAY"
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 2**16, 2**26


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read columns of a Parquet file into memory.

    Args:
        path: The file.
        columns: Names of the columns that are read if they exist; None reads all.

    Raises:
        ValueError: If the columns hold far more bytes than the file.
        OSError, pyarrow.ArrowException: If the file is damaged or no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = [name for name in schema.names if columns is None or name in columns]
        fields = pa.schema([schema.field(name) for name in names], schema.metadata)
        table = pa.Table.from_batches(_bounded(path, file, names, _ROWS_AT_ONCE), fields)
    return table if columns is None else table.select([each for each in columns if each in names])


def iter_batches(path: Path, columns: Sequence[str], num_rows: int) -> Iterator["pa.RecordBatch"]:
    """Yield columns of a Parquet file, at most `num_rows` rows at a time.

    Raises:
        ValueError: If the columns hold far more bytes than the file.
        OSError, pyarrow.ArrowException: If the file is damaged or no Parquet file.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from _bounded(path, file, columns, num_rows)


def _bounded(
    path: Path, file: "pq.ParquetFile", names: Sequence[str], num_rows: int
) -> Iterator["pa.RecordBatch"]:
    """Yield batches until together they hold too much; a text is no longer than its column."""
    num_bytes = path.stat().st_size
    limit = max(MIN_EXPANDED_BYTES, MAX_EXPANSION * num_bytes)
    too_large = ValueError(
        f"{path.name} would take more than {limit // 10**6:,} MB of memory, although the file has "
        f"{num_bytes:,} bytes"
    )
    chunks = list(_chunks(file, names))
    if sum(_numbers_bytes(file, chunk) for chunk in chunks) > limit:
        raise too_large
    if _page_bytes(path, chunks) > limit:
        raise too_large
    texts = [chunk.total_uncompressed_size for chunk in chunks if chunk.physical_type == _TEXT]
    fitting = max(1, _BYTES_AT_ONCE // max([1, *texts]))
    total = 0
    for batch in file.iter_batches(min(num_rows, fitting), columns=list(names), use_threads=False):
        total += batch.nbytes
        if total > limit:
            raise too_large
        yield batch


def _chunks(file: "pq.ParquetFile", names: Sequence[str]) -> Iterator["pq.ColumnChunkMetaData"]:
    facts = file.metadata
    for group in range(facts.num_row_groups):
        for column in range(facts.num_columns):
            chunk = facts.row_group(group).column(column)
            if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in names):
                yield chunk


def _page_bytes(path: Path, chunks: Sequence["pq.ColumnChunkMetaData"]) -> int:
    """Return the bytes that a reader allocates for the pages; ValueError if one is damaged."""
    total = 0
    with path.open("rb") as opened:
        for chunk in chunks:
            if not chunk.num_values:  # its offsets mean nothing, and no page is read
                continue
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            try:
                total += stated_page_bytes(opened, start, chunk.total_compressed_size)
            except ValueError as error:
                raise ValueError(f"{path.name} is damaged ({error})") from error
    return total


def _numbers_bytes(file: "pq.ParquetFile", chunk: "pq.ColumnChunkMetaData") -> int:
    """Return the bytes that the numbers, or the lengths of the texts, of a column take."""
    width = _WIDTHS.get(chunk.physical_type, 4)
    if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY":
        leaves = (file.schema.column(number) for number in range(len(file.schema)))
        width = max(each.length for each in leaves if each.path == chunk.path_in_schema)
    return int(chunk.num_values) * width
