"""Labels that people give: a CSV that they own, with a line for every cell that was shown.

    image_id,label,reader,seconds
    smear1/0007.png,monocyte,AB,2.4
    smear1/0012.png,skip,AB,1.0

The line is written as soon as the cell is answered, so a killed program loses none. A label is one
of the eleven classes (or its clinical name), `other` for a cell or object of another kind, or
`skip`. A person may edit the file in between, even with a spreadsheet, which may change commas and
quotes. Beside it, `NAME.chosen.json` says how the cells were chosen.
"""

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hf_wbc.escape import names_meant, text_read_back, write_csv
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import CLASSES, NAMES, class_id
from hf_wbc.text import csv_rows, plural, shorten_list

__all__ = [
    "COLUMNS",
    "FEWEST_NEW",
    "OTHER",
    "SKIP",
    "Answer",
    "LabelsFile",
    "labels_csv",
    "match_names",
    "note_strategy",
    "parse_class",
    "read_answers",
    "read_strategy",
    "require_known",
]

COLUMNS = ("image_id", "label", "reader", "seconds")
OTHER = "other"
"""The label of a cell or object that is none of the eleven classes."""
SKIP = "skip"
"""The label of a cell that a reader does not want to name."""
FEWEST_NEW = 3
"""Labels from which a class that the sources lack is predicted."""
UNKNOWN, NOTE = "unknown", ".chosen.json"


@dataclass(frozen=True)
class Answer:
    """What one reader said about one cell."""

    image_id: str
    label: str
    """Name of a class, `OTHER` or `SKIP`."""
    reader: str = ""
    seconds: float | None = None
    """Time that the reader took."""

    @property
    def is_class(self) -> bool:
        """Whether the label is one of the eleven classes."""
        return self.label in NAMES


def parse_class(text: str) -> str:
    """Return the label that a person wrote: a class by either of its names, OTHER or SKIP.

    Raises:
        ValueError: If it is none of these; the message suggests the nearest.

    Examples:
        >>> parse_class("Band neutrophil"), parse_class("monocyte"), parse_class("SKIP")
        ('neutrophil_banded', 'monocyte', 'skip')
    """
    plain = " ".join(text.replace("_", " ").lower().split())
    for cell in CLASSES:
        if plain in (cell.name.replace("_", " "), cell.clinical_name):
            return cell.name
    if plain in (OTHER, SKIP):
        return plain
    if not plain:
        raise ValueError(f"the label is empty; write a class, {OTHER} or {SKIP}")
    return NAMES[class_id(text.strip())]


def read_answers(path: Path) -> list[Answer]:
    """Read all lines of a labels file.

    Raises:
        ValueError: For a file that is not such a table, an unknown class, a time that is not a
            number, or a reader who gave the same cell two classes; names the line.
    """
    return parse_answers(path.read_bytes(), str(path))


def parse_answers(data: bytes, name: str) -> list[Answer]:
    """Parse a labels file; `name` is what messages call it. Raises as `read_answers`."""
    found: dict[tuple[str, str], tuple[int, Answer]] = {}
    delimiter = _delimiter(data.decode("utf-8-sig", errors="replace"))
    for line, row in csv_rows(data, name, ("image_id", "label"), delimiter):
        answer = _answer(row, f"{name}, line {line}")
        key = (answer.image_id, answer.reader)
        before = found.get(key)
        if before is not None and before[1].label not in (answer.label, SKIP):
            raise ValueError(
                f"{name}: {answer.image_id} is labeled twice{_by(answer.reader)}, "
                f"{before[1].label} in line {before[0]} and {answer.label} in line {line}; remove "
                "one of the lines"
            )
        found[key] = (line, answer)
    return [answer for _, answer in found.values()]


def _answer(row: Mapping[str, str], place: str) -> Answer:
    # Without the mark against formulas, see `write_csv`.
    image_id, reader = (text_read_back(row.get(name, "")) for name in ("image_id", "reader"))
    seconds = row.get("seconds", "")
    if not image_id:
        raise ValueError(f"{place}: image_id is empty; name the image, or remove the line")
    try:
        label = parse_class(row["label"])
        took = float(seconds.replace(",", ".")) if seconds else None
    except ValueError as error:
        what = str(error) if "could not convert" not in str(error) else (
            f"seconds is {seconds!r}, which is not a number"
        )  # fmt: skip
        raise ValueError(f"{place}, {image_id}: {what}") from error
    return Answer(image_id, label, reader, took)


def _stored(answer: Answer) -> Answer:
    """Return what a labels file gives back of an answer."""
    image_id, reader = map(text_read_back, (answer.image_id, answer.reader))
    return replace(answer, image_id=image_id, reader=reader)


class LabelsFile:
    """A labels file that is being written.

    Attributes:
        path: The CSV.
        answers: All lines, including those of other readers and of earlier sessions.
    """

    def __init__(self, path: Path) -> None:
        """Open a file, which need not exist yet.

        Raises:
            ValueError: If the file is damaged, or a spreadsheet has it open.
        """
        self.path = path
        if path.suffix.lower() != ".csv" or path.is_dir():
            raise ValueError(f"--out is {path}; labels need a file name that ends in .csv")
        if lock := open_in_spreadsheet(path):
            raise ValueError(
                f"{path} is open in a spreadsheet ({lock.name}), which would overwrite new labels "
                "when it saves; close it there first"
            )
        self.answers = read_answers(path) if path.exists() else []
        _require_columns(path)
        self._own: list[Answer] = []

    def append(self, answer: Answer) -> None:
        """Write an answer at once.

        If somebody has saved an older version of the file in between, answers of this session that
        it lacks are written again.

        Raises:
            ValueError: If the reader has given this cell another class before.
        """
        with exclusive_lock(self._lock, "", on_wait=lambda: None):
            current = read_answers(self.path) if self.path.exists() else []
            stored = _stored(answer)
            key = (stored.image_id, stored.reader)
            before = next((a for a in current if (a.image_id, a.reader) == key), None)
            if before is not None and before.label not in (answer.label, SKIP):
                raise ValueError(
                    f"{answer.image_id} is {before.label} in {self.path}; take that back first"
                )
            have = {(each.image_id, each.reader) for each in current}
            own = map(_stored, self._own)
            lost = [each for each in own if (each.image_id, each.reader) not in have]
            self._write([*(a for a in current if a is not before), *lost, stored])
            self._own.append(answer)

    def put(self, image_id: str, reader: str, answer: Answer | None) -> None:
        """Replace what a reader said about a cell at once; None takes it back.

        The cell is an image of the page, which a folder's labels call by a path that ends so.

        Raises:
            ValueError: If the file has several cells whose paths end so.
        """
        with exclusive_lock(self._lock, "", on_wait=lambda: None):
            current = read_answers(self.path) if self.path.exists() else []
            name, reader = text_read_back(image_id), text_read_back(reader)
            ends = f"/{name}"
            same = [a for a in current if f"/{a.image_id}".endswith(ends)]
            _require_one_cell([a.image_id for a in same], name)
            kept = [a for a in current if a.reader != reader or a not in same]
            self._write(kept if answer is None else [*kept, answer])

    def undo(self) -> Answer | None:
        """Take back the last answer of this session; return it, or None if there is none."""
        if not self._own:
            return None
        with exclusive_lock(self._lock, "", on_wait=lambda: None):
            last = self._own.pop()
            current = read_answers(self.path) if self.path.exists() else []
            self._write([each for each in current if each != _stored(last)])
        return last

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _write(self, answers: list[Answer]) -> None:
        """Replace the file, whose commas and quotes a spreadsheet may have changed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(self.path) as temporary, temporary.open("wb") as file:
            file.write(labels_csv(answers))
            file.flush()
            os.fsync(file.fileno())
        self.answers = answers


def require_known(
    image_ids: Sequence[str], known: Collection[str], tested: Collection[str], name: str
) -> None:
    """Raise ValueError for labeled cells that a laboratory does not have, or that are test cells.

    Args:
        image_ids: Names of the labeled cells.
        known: Names of the cells that may be labeled.
        tested: Names of the test cells.
        name: Name of the laboratory.
    """
    if forbidden := [each for each in image_ids if each in tested]:
        raise ValueError(
            f"labeled test cells of {name}: {shorten_list(forbidden)}; test cells measure the "
            "result and must not be labeled for training: remove their rows"
        )
    missing = [each for each in image_ids if each not in known]
    if not missing:
        return
    if len(missing) == len(image_ids):
        example = next(iter(known), "")
        raise ValueError(
            f"{name} has none of the labeled cells ({len(missing)}, for example {missing[0]!r}; "
            f"the folder has {example!r}): the labels belong to another dataset"
        )
    raise ValueError(
        f"{name} lacks {plural(len(missing), 'labeled cell')}: {shorten_list(missing)}; remove "
        "their rows, or add the images"
    )


def match_names(
    answers: Sequence[Answer], known: Collection[str], tested: Collection[str] = ()
) -> list[Answer]:
    """Return answers under the names that a laboratory's cells have.

    The page knows an image by its file name, a folder by its path, and each reads the labels of the
    other: an unknown name stands for the only cell whose path ends in it, or in which it ends. A
    table cannot hold every name either, see `names_meant`.

    Args:
        answers: The answers.
        known: Names of the cells.
        tested: Names of test cells, which stay as they are.

    Raises:
        ValueError: If a reader gives one cell two classes, under two names, or if a name stands for
            cells of two folders.
    """
    if not all(each.image_id in known or each.image_id in tested for each in answers):
        meant = names_meant([each.image_id for each in answers], [*known, *tested])
        answers = [replace(each, image_id=name) for each, name in zip(answers, meant, strict=True)]
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in known:
        by_file[PurePosixPath(name).name].append(name)

    def name_of(image_id: str) -> str:
        if image_id in known or image_id in tested:
            return image_id
        found = [
            name
            for name in by_file.get(PurePosixPath(image_id).name, ())
            if name.endswith(f"/{image_id}") or image_id.endswith(f"/{name}")
        ]
        return found[0] if len(found) == 1 else image_id

    found: dict[tuple[str, str], tuple[str, Answer]] = {}
    names_of: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        new = replace(answer, image_id=name_of(answer.image_id))
        names_of[new.image_id].add(answer.image_id)
        key = (new.image_id, new.reader)
        name, old = found.get(key, (answer.image_id, new))
        if old.label not in (new.label, SKIP):
            raise ValueError(
                f"{new.image_id} is labeled twice{_by(new.reader)}: {old.label} under the name "
                f"{name} and {new.label} under the name {answer.image_id}; remove one of the rows"
            )
        found[key] = (answer.image_id, new)
    for name, names in names_of.items():
        _require_one_cell(names, name)
    return [answer for _, answer in found.values()]


def _require_one_cell(names: Collection[str], cell: str) -> None:
    """Raise ValueError if paths that end in the name of a cell lie in different folders."""
    longest = max(names, key=len, default="")
    other = next((name for name in names if not f"/{longest}".endswith(f"/{name}")), None)
    if other is not None:
        raise ValueError(
            f"{other} and {longest} are two cells in the labels, but may both be {cell} here; "
            "rename the images so that no two have one name, or use another labels file"
        )


def _by(reader: str) -> str:
    return f" by {reader}" if reader else ""


def note_strategy(path: Path, strategy: str) -> None:
    """Write beside a labels file how its cells are chosen; several strategies are joined by +."""
    note = path.with_suffix(NOTE)
    with exclusive_lock(note.with_name(f".{note.name}.lock"), "", on_wait=lambda: None):
        before = read_strategy(path)
        names = [] if before == UNKNOWN else before.split("+")
        if strategy in names:
            return
        with atomic_replace(note) as temporary:
            text = json.dumps({"strategy": "+".join([*names, strategy])})
            temporary.write_text(text + "\n", encoding="utf-8")


def read_strategy(path: Path) -> str:
    """Return how the cells of a labels file were chosen; `unknown` if the file comes alone.

    Raises:
        ValueError: If the note beside the file is damaged.
    """
    note = path.with_suffix(NOTE)
    try:
        strategy = json.loads(note.read_text(encoding="utf-8"))["strategy"]
    except FileNotFoundError:
        return UNKNOWN
    except (ValueError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(
            f"{note} does not say how the cells of {path.name} were chosen ({error!r}); delete it"
        ) from error
    return str(strategy)


def _require_columns(path: Path) -> None:
    """Raise ValueError if writing COLUMNS alone would lose what an existing file says."""
    text = path.read_text("utf-8-sig") if path.exists() else ""
    titles = next(csv.reader(io.StringIO(text), delimiter=_delimiter(text)), [])
    if extra := [title for title in titles if title.strip() not in COLUMNS]:
        raise ValueError(
            f"{path} has the column {', '.join(extra)}, which new labels ({','.join(COLUMNS)}) "
            "would lose: choose another --out, and give this file with --add"
        )


def _delimiter(text: str) -> str:
    """Return what separates the cells: spreadsheets of many countries save semicolons or tabs."""
    header = text.partition("\n")[0]
    return "," if "," in header else next((each for each in ";\t" if each in header), ",")


def open_in_spreadsheet(path: Path) -> Path | None:
    """Return the lock file of a spreadsheet program that has the file open, if there is one."""
    for name in (f".~lock.{path.name}#", f"~${path.name}"):
        if (lock := path.with_name(name)).exists():
            return lock
    return None


def labels_csv(answers: Sequence[Answer]) -> bytes:
    """Return answers as the text of a labels file."""
    text = io.StringIO()
    rows = [
        (a.image_id, a.label, a.reader, "" if a.seconds is None else f"{a.seconds:.1f}")
        for a in answers
    ]
    write_csv(text, COLUMNS, rows)
    return text.getvalue().encode()
