"""Predictions of the runs of an evaluation setting, read once and checked against the records."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hf_wbc.comparison.collect import Problem, Run, check_columns
from hf_wbc.comparison.result_table import EvalSetting
from hf_wbc.comparison.statistics import Floats, Scoring, resampled_macro_f1
from hf_wbc.data.parquet_tables import read_table
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import UNLABELED

Columns = dict[str, NDArray[Any]]
_COLUMNS = ("domain", "split", "label", "predicted")
_GROUP = "group"
_CLOSE = 1e-9
"""Tolerance for sums in a different order."""


@dataclass(frozen=True)
class BootstrapScores:
    """Macro-F1 of every run of an evaluation setting on the same bootstrap resamples."""

    scores: dict[str, Floats]
    """Macro-F1 on each resample (R,), by the name of the run."""
    unit: str
    """Unit of the bootstrap: image or group."""


def read_predictions(runs: Sequence[Run]) -> tuple[dict[str, pa.Table], list[Problem]]:
    """Read the columns needed for scoring.

    Returns:
        Tables by the name of the run, and a problem for each file that cannot be read. Missing
        files are skipped.
    """
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_read, runs))
    tables = {run.name: each for run, each in zip(runs, found, strict=True) if _is_table(each)}
    problems = [
        Problem(
            run.path,
            f"damaged: predictions.parquet: {each}; the run is excluded from significance tests",
            run.name,
        )
        for run, each in zip(runs, found, strict=True)
        if isinstance(each, str)
    ]
    return tables, problems


def bootstrap_setting(
    setting: EvalSetting,
    runs: Sequence[Run],
    tables: dict[str, pa.Table],
    num_resamples: int,
    seed: int,
) -> tuple[BootstrapScores, list[Problem]]:
    """Score the runs of an evaluation setting on the same bootstrap resamples.

    Args:
        setting: Evaluation setting.
        runs: Runs of the setting.
        tables: Predictions by the name of the run.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the random numbers.

    Returns:
        The scores, and a problem for each run whose predictions contradict its record.
    """
    cut = {run.name: _cut(tables[run.name], setting) for run in runs if run.name in tables}
    if not cut:
        return BootstrapScores({}, "image"), []
    alike = _most_alike([run for run in runs if run.name in cut], cut)
    if not alike:
        return BootstrapScores({}, "image"), [
            _contradiction(run, setting) for run in runs if run.name in cut
        ]
    first = cut[alike[0].name]
    labels, groups = first["label"], _groups(first)
    predictions = [cut[run.name]["predicted"] for run in alike]
    scoring = Scoring(labels, setting.merge, setting.classes, groups)
    observed, scores = resampled_macro_f1(scoring, predictions, num_resamples, seed)
    found, problems = {}, []
    for place, run in enumerate(alike):
        recorded = run.record["results"][setting.domain][setting.split]["macro_f1"]
        if abs(observed[place] - recorded) < _CLOSE:
            found[run.name] = scores[:, place]
    for run in runs:
        if run.name in cut and run.name not in found:
            problems.append(_contradiction(run, setting))
    return BootstrapScores(found, "image" if groups is None else "group"), problems


def _most_alike(runs: Sequence[Run], cut: dict[str, Columns]) -> list[Run]:
    """Return the runs with the labels that most runs have, without those that have no labels."""
    found: dict[bytes, list[Run]] = {}
    for run in runs:
        labels = cut[run.name]["label"].astype(np.int64)
        if (labels != UNLABELED).any():
            found.setdefault(labels.tobytes(), []).append(run)
    return max(found.values(), key=len, default=[])


def _contradiction(run: Run, setting: EvalSetting) -> Problem:
    what = (
        f"predictions.parquet does not reproduce the macro-F1 on {setting.domain} in "
        "record.json; the run is excluded from significance tests"
    )
    return Problem(run.path, what, run.name)


def _read(run: Run) -> pa.Table | str | None:
    """Read a table of predictions.

    Returns:
        The table, an error message, or None if the file is missing (`collect` reports it).
    """
    path = RunFolder(run.path).predictions
    try:
        table = read_table(path, (*_COLUMNS, _GROUP))
        if missing := [name for name in _COLUMNS if name not in table.column_names]:
            return f"it has no column {', '.join(missing)}"
        check_columns(table)
        for place, name in enumerate(("domain", "split")):
            table = table.set_column(place, name, table[name].dictionary_encode())
        return table
    except FileNotFoundError:
        return None
    except KeyError as error:
        return f"it has no column {error}"
    except (OSError, ValueError, pa.ArrowException) as error:
        return str(error).splitlines()[0]


def _is_table(found: object) -> bool:
    return isinstance(found, pa.Table)


def _cut(table: pa.Table, setting: EvalSetting) -> Columns:
    """Return the columns for the images of an evaluation setting."""
    here = _is(table["domain"], setting.domain) & _is(table["split"], setting.split)
    names = [name for name in table.column_names if name not in ("domain", "split")]
    return {name: table[name].to_numpy()[here] for name in names}


def _is(column: pa.ChunkedArray, word: str) -> NDArray[np.bool_]:
    """Return which rows of a dictionary-encoded column equal the given word."""
    column = column.combine_chunks()
    names = column.dictionary.to_pylist()
    place = names.index(word) if word in names else -1
    found: NDArray[np.bool_] = column.indices.to_numpy() == place
    return found


def _groups(columns: Columns) -> NDArray[np.str_] | None:
    """Return the group of each image (N,); None unless all groups are known."""
    groups = columns.get(_GROUP)
    if groups is None or any(group is None for group in groups):
        return None
    return groups.astype(str)
