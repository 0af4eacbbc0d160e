"""Reading small tables that people wrote: errors name the file and the line."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping


def csv_rows(
    data: bytes, name: str, columns: Collection[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and cells of each row of a comma-separated UTF-8 table with a line of titles.

    `columns` must be there, others may be; cells have no space around them, and empty lines are
    passed over. ValueError, naming the file `name`, for any other kind of file.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        titles = [title.strip() for title in next(reader, [])]
        if missing := [column for column in columns if column not in titles]:
            raise ValueError(
                f"{name} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(titles) or 'none'}; they are named in the first line and separated by "
                "commas"
            )
        if len(set(titles)) < len(titles):
            raise ValueError(f"{name} names a column twice: {', '.join(titles)}")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(titles):
                raise ValueError(
                    f"{name}, line {reader.line_num}: {len(cells)} cells in a table of "
                    f"{len(titles)} columns; mend the line"
                )
            row = zip(titles, (cell.strip() for cell in cells), strict=True)
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}; mend the line") from error


def shorten_list(values: Collection[object], num: int = 5) -> str:
    """The first values and how many more: `1, 2, 3 and 14 more`."""
    shown = ", ".join(str(value) for value in list(values)[:num])
    return shown + (f" and {len(values) - num} more" if len(values) > num else "")
