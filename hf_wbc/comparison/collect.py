"""Find run folders and determine which of them can be compared.

No run folder is skipped silently: one that is damaged, unfinished or of another version becomes a
`Problem`. Copies of the same run count once.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc.config import TrainConfig
from hf_wbc.record_schema import check_training_record
from hf_wbc.record_versions import upgrade_record
from hf_wbc.records import RunFolder, digest
from hf_wbc.taxonomy import NUM_CLASSES, UNLABELED

if TYPE_CHECKING:
    import pyarrow as pa

MEASURED = ("cost", "machine", "packages")
"""Parts of a record that may differ between two executions of the same run."""
PARQUET = b"PAR1"
"""First and last bytes of a complete Parquet file."""
_FOLDERS = re.compile(r"(?<![^\s'\"(=])/(?:[^\s/'\"]+/)+")
"""Matches the folders of absolute paths in error messages, which depend on the machine, not on the
run."""


@dataclass(frozen=True)
class Run:
    """Finished training run."""

    path: Path
    record: Mapping[str, Any]

    @cached_property
    def name(self) -> str:
        """Digest of everything that determines the result."""
        return str(self.record["run"])

    @cached_property
    def config(self) -> TrainConfig:
        """Resolved configuration."""
        return TrainConfig.from_record(self.record)

    @property
    def method(self) -> str:
        """Name of the adaptation method."""
        return self.config.adapt.method

    @cached_property
    def network(self) -> str:
        """Requested model name: the last part of its path, without the revision."""
        return Path(str(self.record["model"]["name"]).partition("@")[0]).name

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the source domains."""
        return tuple(domain["name"] for domain in self.record["sources"])

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Names of the target domains."""
        return tuple(domain["name"] for domain in self.record["target"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

    @property
    def rule(self) -> str:
        """Selection rule that selected the weights."""
        return str(self.record["selection"]["rule"])

    @property
    def exposure(self) -> str:
        """Text that describes the pre-training data of the backbone."""
        return str(self.record["model"]["exposure"])

    @property
    def exposed_to(self) -> tuple[str, ...]:
        """Domains that the backbone is known to have seen in pre-training."""
        return tuple(self.record["model"]["exposed_to"])

    def predictions(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the predictions on demand.

        Args:
            columns: Names of the columns to read; None reads all.

        Returns:
            One row per image: domain, split, image_id, label, predicted and others.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        return _read_table(RunFolder(self.path).predictions, columns)

    def features(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the features on demand.

        Args:
            columns: Names of the columns to read; None reads all.

        Returns:
            One row per image: domain, split, image_id, features.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        return _read_table(RunFolder(self.path).features, columns)


@dataclass(frozen=True)
class Problem:
    """Problem with a folder that is excluded from the comparison, or only partly included."""

    path: Path
    what: str
    place: str = ""
    """Path relative to the given root, so that it does not depend on the machine."""


@dataclass(frozen=True)
class Collection:
    """All runs and problems found."""

    runs: tuple[Run, ...]
    """Runs sorted by direction, network, method, rule, seed and name."""
    problems: tuple[Problem, ...]
    """Problems sorted by place."""


def collect(roots: Sequence[Path]) -> Collection:
    """Find every run folder at or below the roots, and read each record once.

    Raises:
        ValueError: If a root does not exist or contains no run folder.
    """
    if not roots:
        raise ValueError(
            "no folders given; name the --output-dir of `hf-wbc train`, or run folders"
        )
    found: dict[str, list[tuple[Run, str]]] = {}
    problems = []
    for path, place in _folders(roots):
        try:
            run = _read(path)
        except ValueError as error:
            problems.append(Problem(path, str(error), place))
        except OSError as error:
            problems.append(Problem(path, f"cannot be read: {error.strerror}", place))
        except RecursionError:
            problems.append(Problem(path, "damaged: nested too deeply; make it again", place))
        else:
            found.setdefault(run.name, []).append((run, place))
    runs = []
    for copies in found.values():
        run, others = _one_of(copies)
        runs.append(run)
        problems += others
    once = {(problem.place, problem.what): problem for problem in problems}
    return Collection(tuple(sorted(runs, key=sort_key)), tuple(once[key] for key in sorted(once)))


def sort_key(run: Run) -> tuple[Any, ...]:
    """Return a sort key for runs that does not depend on the location of their folders."""
    return (run.sources, run.targets, run.network, run.method, run.rule, run.seed, run.name)


def _folders(roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each run folder once, with its path relative to its root."""
    seen = set()
    for root in roots:
        if not root.is_dir():
            raise ValueError(
                f"{root} is not a folder; name run folders, or folders that contain them"
            )
        any_here = False
        for path in _run_folders(root):
            any_here = True
            if (real := path.resolve()) not in seen:
                seen.add(real)
                place = path.relative_to(root).as_posix()
                yield path, real.name if place == "." else place
        if not any_here:
            raise ValueError(
                f"{root} contains no run folder; name the --output-dir of `hf-wbc train`"
            )


def _run_folders(path: Path, parents: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Yield folders with a record or the configuration of a run, without descending into them.

    A folder that cannot be listed is yielded too, so that reading it reports the problem. A link
    to a folder that contains it is skipped.
    """
    try:
        facts = path.stat()
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield path
        return
    here = (facts.st_dev, facts.st_ino)
    if here in parents:
        return
    names = {entry.name for entry in listed}
    if "record.json" in names or "history.jsonl" in names or _is_config(path / "config.json"):
        yield path
        return
    for entry in listed:
        if not entry.name.startswith(".") and _is_folder(entry):
            yield from _run_folders(path / entry.name, (*parents, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_config(path: Path) -> bool:
    """Return whether a file is the config.json of a run, even if truncated, and not of a model."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.match(r'\s*\{\s*"config"', text) is not None


def _read(path: Path) -> Run:
    """Read the run in a folder.

    Raises:
        ValueError: If the run cannot be compared; the message does not name the folder.
    """
    folder = RunFolder(path)
    config = _read_json(folder.config)
    if not folder.finished:
        raise ValueError(_why_unfinished(folder))
    record = _read_json(folder.record)
    try:
        record = upgrade_record(record)
    except ValueError as error:
        raise ValueError(f"of another version: record.json {error}") from None
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"damaged: record.json ({error}); make it again") from error
    if record.get("kind") != "training":
        raise ValueError(f"of kind {record.get('kind')!r}: only training runs are compared")
    identity = config.get("identity")
    if not isinstance(identity, dict) or digest(identity) != record.get("run"):
        raise ValueError("damaged: record.json is of another run than config.json; make it again")
    try:
        check_training_record(record)
    except ValueError as error:
        raise ValueError(f"damaged: record.json: {error}; make it again") from error
    return Run(path, record)


def _why_unfinished(folder: RunFolder) -> str:
    if folder.is_busy:
        return "unfinished: a process is writing it; compare again when it has finished"
    if not folder.failure.exists():
        return "unfinished: it has no record.json; repeat the command that created it"
    error = str(_read_json(folder.failure).get("what", "see its failure.json"))
    return f"failed: {re.sub(_FOLDERS, '', error.strip())}; fix the cause and repeat the command"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"damaged: {path.name} is missing; make it again") from None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"damaged: {path.name}: {error}; make it again") from error
    if not isinstance(values, dict):
        raise ValueError(f"damaged: {path.name} is not a JSON object; repeat the run")
    return values


def _missing(folder: RunFolder, is_compared: bool = True) -> Iterator[str]:
    """Yield which files besides the record are missing or damaged, and what this excludes.

    A copy that is not compared excludes nothing.
    """
    losses = {folder.predictions: "significance tests", folder.features: ""}
    for path, loss in losses.items():
        loss, whole = loss if is_compared else "", _is_parquet(path)
        if whole is False:
            end = f"; the run is excluded from {loss}" if loss else ""
            yield f"damaged: {path.name} is truncated{end}; repeat the run"
        elif whole is None and loss:
            yield f"{path.name} is missing; the run is excluded from {loss}"


def _is_parquet(path: Path) -> bool | None:
    """Return whether a Parquet file is complete, judging by its ends; None if it does not exist."""
    try:
        with path.open("rb") as file:
            start = file.read(len(PARQUET))
            file.seek(-min(len(PARQUET), file.seek(0, os.SEEK_END)), os.SEEK_END)
            return start == file.read() == PARQUET
    except FileNotFoundError:
        return None
    except OSError:  # a folder of this name, or one that may not be read
        return False


def _read_table(path: Path, columns: Sequence[str] | None) -> "pa.Table":
    import pyarrow as pa

    from hf_wbc.data.parquet_tables import read_table

    try:
        table = read_table(path, columns)
        check_columns(table)
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"damaged: {path.name}: {error}; make the run again") from error
    return table


def check_columns(table: "pa.Table") -> None:
    """Check types and ranges of the columns of predictions or features.

    Raises:
        ValueError: Names the column and what it must hold.
    """
    import pyarrow.compute as pc
    from pyarrow import types

    for name in table.column_names:
        column = table[name]
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if name in ("domain", "split", "image_id"):
            is_right, what = types.is_string(kind) or types.is_large_string(kind), "texts"
        elif name in ("label", "predicted"):
            is_right, what = types.is_integer(kind), "class ids"
        elif name.startswith("p_"):
            is_right, what = types.is_floating(kind), "numbers"
        elif name == "features":
            is_right = types.is_fixed_size_list(kind) and types.is_floating(kind.value_type)
            what = "lists of numbers, all of one length"
        else:
            continue
        if not is_right or column.null_count:
            raise ValueError(f"column {name} does not hold {what}")
        if what == "class ids" and len(column):
            found = pc.min_max(column).as_py()
            lowest = UNLABELED if name == "label" else 0
            if found["min"] < lowest or found["max"] >= NUM_CLASSES:
                raise ValueError(f"column {name} holds {found['min']} to {found['max']}")


def _one_of(copies: Sequence[tuple[Run, str]]) -> tuple[Run, list[Problem]]:
    """Select the copy of a run to compare, and report the problems of all copies.

    The selection does not depend on the order of the copies, and prefers the copy with the fewest
    missing files. Copies are equal if their scores are; times may differ.
    """
    if not copies[1:]:
        ((run, place),) = copies
        return run, [Problem(run.path, what, place) for what in _missing(RunFolder(run.path))]
    prints = {run.path: digest(run.record) for run, _ in copies}
    lacks = {run.path: len([*_missing(RunFolder(run.path))]) for run, _ in copies}
    ordered = sorted(copies, key=lambda copy: (lacks[copy[0].path], prints[copy[0].path], copy[1]))
    kept, problems = ordered[0][0], []
    for run, place in ordered:
        parts = _missing(RunFolder(run.path), is_compared=run is kept)
        problems += [Problem(run.path, what, place) for what in parts]
        if run is not kept and (differing := _differing(kept, run)):
            what = (
                f"duplicate: this copy (record {prints[run.path]}) differs in "
                f"{', '.join(differing)} from the one that is compared (record {prints[kept.path]})"
            )
            problems.append(Problem(run.path, what, place))
    return kept, problems


def _differing(one: Run, other: Run) -> list[str]:
    """Return the parts of the records, and the files, in which two copies differ."""
    parts = sorted({*one.record, *other.record} - set(MEASURED))
    found = [part for part in parts if one.record.get(part) != other.record.get(part)]
    for name in ("predictions", "features"):
        files = [getattr(RunFolder(run.path), name) for run in (one, other)]
        if len({file.read_bytes() if file.is_file() else b"" for file in files}) > 1:
            found.append(files[0].name)
    return found
