"""Small tables: what is read, and which line an error names."""

import pytest

from hf_wbc.text import csv_rows, shorten_list


def read(data: bytes) -> list[tuple[int, dict[str, str]]]:
    return [(line, dict(row)) for line, row in csv_rows(data, "t.csv", ("a", "b"))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_come_with_their_lines_however_these_end(end: bytes, mark: bytes) -> None:
    data = mark + end.join([b" a ,c,b", b"", 'ж,"x, y", 2 '.encode(), b""])
    assert read(data) == [(3, {"a": "ж", "c": "x, y", "b": "2"})]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t.csv has no column a, b; its columns are none"),
        (b"a;b\n1;2\n", "has no column a, b; its columns are a;b; they are named in the first"),
        (b"a,b,a\n", "t.csv names a column twice: a, b, a"),
        (b"a,b\n1,2\n1\n", "t.csv, line 3: 1 cells in a table of 2 columns"),
        (b'a,b\n1,"2\n', "t.csv, line 2: unexpected end of data"),
        (b"a,b\n\xe4,2\n", "t.csv is not UTF-8 text (byte 4)"),
        (b"PK\x03\x04\x00\xff", "t.csv is not UTF-8 text (byte 5)"),
    ],
)
def test_another_kind_of_file_is_an_error_that_names_the_place(data: bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(data)
    assert message in str(error.value)


def test_a_long_list_is_cut_with_its_number() -> None:
    assert shorten_list(range(3)) == "0, 1, 2"
    assert shorten_list(range(20), 2) == "0, 1 and 18 more"
