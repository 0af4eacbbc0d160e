"""Sum the sizes that the pages of a Parquet column state, which a reader allocates unseen.

The sizes in a file's footer may be anything: a reader takes the memory that each page's own header
states, up to 2 GiB of a page of some bytes. Headers are structs of Thrift's compact protocol
(https://github.com/apache/parquet-format, `parquet.thrift`); only their first fields matter here.
"""

from typing import BinaryIO

__all__ = ["stated_page_bytes"]

MAX_PAGES = 100_000
"""Most pages of a column in a row group; writers make pages of a megabyte."""
_HEADER_BYTES = (2**12, 2**24)
"""Bytes that are read for a header, and again for one with long statistics, as in Arrow."""
_DEPTH = 8
_UNCOMPRESSED, _COMPRESSED = 2, 3
"""Numbers of the fields of a page header."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_STRUCT = 12


def stated_page_bytes(file: BinaryIO, start: int, num_bytes: int) -> int:
    """Return the sum of the uncompressed sizes that the pages of a column chunk state.

    Args:
        file: The open file.
        start: Place of the first page.
        num_bytes: Compressed bytes of the chunk with its headers.

    Raises:
        ValueError: If a header is damaged, or there are too many.
    """
    end, total = start + num_bytes, 0
    for _ in range(MAX_PAGES):
        if start >= end:
            return total
        uncompressed, compressed, length = _read_header(file, start)
        if uncompressed < 0 or compressed < 0:
            raise ValueError("the size of a page is negative")
        total += uncompressed
        start += length + compressed
    raise ValueError(f"a column has more than {MAX_PAGES:,} pages")


def _read_header(file: BinaryIO, start: int) -> tuple[int, int, int]:
    """Return the uncompressed and the compressed size of a page, and the length of its header."""
    for num_bytes in _HEADER_BYTES:
        file.seek(start)
        data = file.read(num_bytes)
        reader = _Reader(data)
        try:
            sizes = reader.integers()
        except IndexError:
            if len(data) < num_bytes:
                break  # the file ends here
            continue
        if _UNCOMPRESSED in sizes and _COMPRESSED in sizes:
            return sizes[_UNCOMPRESSED], sizes[_COMPRESSED], reader.at
        break
    raise ValueError("the header of a page is damaged")


class _Reader:
    """Reads a struct of Thrift's compact protocol; IndexError if the data ends before."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        """Place of the next byte."""

    def integers(self, depth: int = 0) -> dict[int, int]:
        """Read a struct, and return its integers by the number of their field."""
        if depth > _DEPTH:
            raise ValueError("the header of a page is damaged")
        found: dict[int, int] = {}
        number = 0
        while (mark := self._byte()) != 0:
            number = number + (mark >> 4) if mark >> 4 else self._integer()
            kind = mark & 15
            if kind in (_I16, _I32, _I64):
                found[number] = self._integer()
            elif kind not in (_TRUE, _FALSE):
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE, _BYTE):
            self._move(1)
        elif kind in (_I16, _I32, _I64):
            self._integer()
        elif kind == _DOUBLE:
            self._move(8)
        elif kind == _BINARY:
            self._move(self._unsigned())
        elif kind == _STRUCT:
            self.integers(depth + 1)
        else:  # page headers hold no lists or maps
            raise ValueError("the header of a page is damaged")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _move(self, num_bytes: int) -> None:
        self.at += num_bytes
        if self.at > len(self._data):
            raise IndexError

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("the header of a page is damaged")

    def _integer(self) -> int:
        """Read a signed integer, of which the lowest bit is the sign."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
