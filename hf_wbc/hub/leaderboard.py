"""A leaderboard from result files alone: a table, and a page that needs no server.

The result files of a benchmark lie in `.eval_results/ORG--MODEL.yaml` of its dataset repository,
one for each model, in the published format of such files; `hf-wbc submit` opens a pull request with
one. They are written by strangers: every value is checked and escaped, and a file that cannot be
used is left out by name.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from hf_wbc.escape import markdown_name
from hf_wbc.hub.benchmark import EVAL_FILE, RESULTS_FOLDER, check_benchmark, check_results
from hf_wbc.hub.result_entries import HOME, MEASURES, split_task
from hf_wbc.text import parse_yaml

__all__ = ["Leaderboard", "ModelRow", "Score", "markdown_table", "read_leaderboard"]

MOST_BYTES = 50_000
"""Largest result file that is read."""
DEEPEST = 6
"""Deepest nesting of its YAML."""
_PART = r"[A-Za-z0-9](?:[\w.]|-(?!-)){0,94}"
_FILE = re.compile(rf"({_PART})--({_PART})\.yaml", re.ASCII)
_INTERVAL = re.compile(r"95 % interval (\d\.\d+) to (\d\.\d+)")
_NUM_CLASSES = re.compile(r"macro-F1 over (\d+) classes")


@dataclass(frozen=True)
class Score:
    """One entry of a result file."""

    value: float
    """In [0, 1]; higher is better."""
    interval: tuple[float, float] | None
    """95 % interval, if the notes have one."""
    num_classes: int | None
    is_home: bool
    """Whether the model was trained on images of this laboratory."""
    notes: str
    date: str


@dataclass(frozen=True)
class ModelRow:
    """A model's scores."""

    model: str
    """`org/name`."""
    laboratories: Mapping[str, Score]
    """Macro-F1 by laboratory."""
    measures: Mapping[str, Score]
    """By one of MEASURES."""

    def elsewhere(self, laboratories: Sequence[str]) -> float | None:
        """Return the mean macro-F1 in laboratories that the model was not trained on.

        None unless it has a score in each of `laboratories` and was not trained on all of them.
        """
        if any(name not in self.laboratories for name in laboratories):
            return None
        scores = [self.laboratories[name] for name in laboratories]
        away = [score.value for score in scores if not score.is_home]
        return fmean(away) if away else None

    @property
    def date(self) -> str:
        """ISO date of the latest score; empty if none has one."""
        every = [*self.laboratories.values(), *self.measures.values()]
        return max((score.date for score in every), default="")


@dataclass(frozen=True)
class Leaderboard:
    """The models of a benchmark."""

    title: str
    own: str
    """Name of the benchmark's own laboratory."""
    rows: tuple[ModelRow, ...]
    """Best first."""
    left_out: tuple[tuple[str, str], ...]
    """File and reason."""
    repo_id: str = ""
    """The dataset on the Hub; empty for a folder."""

    @cached_property
    def laboratories(self) -> tuple[str, ...]:
        """The laboratories that are shown: the benchmark's own, then the others that count."""
        return (self.own, *(name for name in self.counted if name != self.own))

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Laboratories in the mean: those that more than half of the models were scored in.

        One model with a further laboratory must not remove all others from the ranking, nor
        widen the table.
        """
        return common_laboratories(self.rows)


def common_laboratories(rows: Sequence[ModelRow]) -> tuple[str, ...]:
    """Return the laboratories that more than half of the models were scored in, by name."""
    counts = Counter(name for row in rows for name in row.laboratories)
    return tuple(sorted(name for name, count in counts.items() if 2 * count > len(rows)))


def read_leaderboard(folder: Path, repo_id: str = "") -> Leaderboard:
    """Read the result files of a benchmark.

    Args:
        folder: A folder with an eval.yaml and `.eval_results/*.yaml`.
        repo_id: The dataset on the Hub that the folder is a copy of.

    Raises:
        ValueError: If the folder is no benchmark. A damaged result file is left out.
    """
    path = folder / EVAL_FILE
    if not path.is_file():
        raise ValueError(f"{repo_id or folder} is not a benchmark: it has no {EVAL_FILE}")
    values = _load(path)
    check_benchmark(values, str(path))
    rows, left_out = [], []
    for file in sorted((folder / RESULTS_FOLDER).glob("*.yaml")):
        try:
            rows.append(read_row(file))
        except (OSError, ValueError) as error:
            left_out.append((file.name, str(error)))
    counted = common_laboratories(rows)

    def rank(row: ModelRow) -> tuple[float, str]:
        mean = row.elsewhere(counted)
        return (1.0 if mean is None else -mean, row.model)

    return Leaderboard(
        title=str(values["name"]),
        own=split_task(str(values["tasks"][0]["id"]))[0],
        rows=tuple(sorted(rows, key=rank)),
        left_out=tuple(left_out),
        repo_id=repo_id,
    )


def read_row(path: Path) -> ModelRow:
    """Read the result file of a model, `ORG--MODEL.yaml`.

    Raises:
        ValueError: If the name is not that of a model, the file has another format, a value is not
            a fraction, or a score is there twice.
    """
    match = _FILE.fullmatch(path.name)
    if not match:
        raise ValueError("the file's name is not ORG--MODEL.yaml")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"the file has more than {MOST_BYTES:,} bytes")
    values = _load(path)
    check_results(values, path.name)
    laboratories: dict[str, Score] = {}
    measures: dict[str, Score] = {}
    for entry in values:
        name, measure = split_task(entry["dataset"]["task_id"])
        into, key = (measures, measure) if measure else (laboratories, name)
        if key in into:
            raise ValueError(f"{key} is there twice")
        into[key] = _score(entry, key)
    return ModelRow(f"{match[1]}/{match[2]}", laboratories, measures)


def _load(path: Path) -> Any:
    """Read YAML that is neither deep nor has aliases, which can cost minutes and gigabytes."""
    depth = 0
    try:
        text = path.read_text(encoding="utf-8")
        for event in yaml.parse(text):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path.name} has YAML aliases; write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"{path.name} is nested more than {DEEPEST} deep")
        return parse_yaml(text, path.name)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is damaged: {' '.join(str(error).split())}") from error


def _score(entry: Mapping[str, Any], key: str) -> Score:
    value = float(entry["value"])
    if not 0 <= value <= 1:
        raise ValueError(f"the value of {key} is {value:g}, not a fraction between 0 and 1")
    notes = str(entry.get("notes") or "")
    found, classes = _INTERVAL.search(notes), _NUM_CLASSES.search(notes)
    return Score(
        value=value,
        interval=(float(found[1]), float(found[2])) if found else None,
        num_classes=int(classes[1]) if classes else None,
        is_home=HOME in notes,
        notes=notes,
        date=str(entry.get("date") or "")[:10],
    )


def markdown_table(board: Leaderboard, names: Mapping[str, str] | None = None) -> str:
    """Render the leaderboard as a Markdown table; values with intervals where there are some.

    Args:
        board: The leaderboard.
        names: Display names of models.
    """
    names = names or {}
    measures = [each for each in MEASURES if any(each in row.measures for row in board.rows)]
    heads = ["model", *map(markdown_name, board.laboratories), "mean elsewhere"]
    heads += [MEASURES[each].title.lower() for each in measures]
    lines = [" | ".join(heads), " | ".join(["---", *["--:"] * (len(heads) - 1)])]
    for row in board.rows:
        mean = row.elsewhere(board.counted)
        cells = [names.get(row.model, row.model)]
        cells += [_cell(row.laboratories.get(name)) for name in board.laboratories]
        cells.append("–" if mean is None else _three(mean))
        cells += [_cell(row.measures.get(each)) for each in measures]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)


def _cell(score: Score | None) -> str:
    if score is None:
        return "–"
    text = _three(score.value)
    if score.interval:
        text += f" [{_three(score.interval[0])}, {_three(score.interval[1])}]"
    return f"{text} (home)" if score.is_home else text


def _three(value: float) -> str:
    """Format a fraction with three decimals and without a leading zero.

    >>> _three(0.5), _three(1.0)
    ('.500', '1.000')
    """
    return f"{value:.3f}".removeprefix("0")
