"""Text helpers: CSV tables with line numbers, shortened lists, and hints for typos."""

from collections.abc import Iterable

import pytest

from hf_wbc.text import csv_rows, did_you_mean, duration, shorten_list


def read(data: bytes) -> list[tuple[int, dict[str, str]]]:
    return [(line, dict(row)) for line, row in csv_rows(data, "t.csv", ("a", "b"))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_rows_carry_their_line_numbers_for_every_line_ending(end: bytes, mark: bytes) -> None:
    data = mark + end.join([b" a ,c,b", b"", 'ж,"x, y", 2 '.encode(), b""])
    assert read(data) == [(3, {"a": "ж", "c": "x, y", "b": "2"})]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t.csv has no column a, b; its columns are none"),
        (b"a;b\n1;2\n", "has no column a, b; its columns are a;b; name the columns in the first"),
        (b"a,b,a\n", "t.csv has two columns of the same name: a, b, a"),
        (b"a,b\n1,2\n1\n", "t.csv, line 3: 1 cells in a table of 2 columns"),
        (b'a,b\n1,"2\n', "t.csv, line 2: unexpected end of data"),
        (b"a,b\n\xe4,2\n", "t.csv is not UTF-8 text (byte 4)"),
        (b"PK\x03\x04\x00\xff", "t.csv is not UTF-8 text (byte 5)"),
    ],
)
def test_malformed_table_error_names_the_line(data: bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(data)
    assert message in str(error.value)


def test_long_list_is_shortened_with_number_left_out() -> None:
    assert shorten_list(range(3)) == "0, 1, 2"
    assert shorten_list(range(20), 2) == "0, 1 and 18 more"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("corall", ["dann", "coral"], "did you mean 'coral'?"),
        ("xyz", {"coral": 1, "dann": 2}, "choose from coral, dann"),
        ("xyz", [], "there are none to choose from"),
    ],
)
def test_unknown_name_gets_closest_known_name(name: str, known: Iterable[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint


def test_duration_is_rounded() -> None:
    assert duration(59.6) == "60 s"
