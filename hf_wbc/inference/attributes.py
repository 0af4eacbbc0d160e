"""Train and score a head for morphological attributes of cells.

The attributes are a table such as WBCAtt (Tsutsui, Pang & Wen 2023, arXiv:2306.13531), which has
eleven of them for 10,298 cells of Acevedo. Its rows are joined to a dataset by the name of the
image file. The dataset's own splits decide which cells train and which are scored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.dataset import DomainSplit, load_split, load_splits
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.forward import Runtime
from hf_wbc.inference.gallery import head_digest
from hf_wbc.inference.runtime import split_features
from hf_wbc.inference.select_runtime import choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.models.attribute_head import UNKNOWN, AttributeHead, fit_attributes
from hf_wbc.models.stage_features import stage_features
from hf_wbc.taxonomy import NAMES, UNLABELED
from hf_wbc.text import csv_rows, shorten_list

__all__ = ["attribute_scores", "class_consistency", "read_attributes", "train_attributes"]

Table = dict[str, dict[str, str]]
"""Values by attribute, by the name of the image file."""
NAME = "img_name"
OTHERS = {NAME, "label", "path"}
"""Columns that are no attributes."""
WITHIN = 0.05
"""Distance from the annotators' agreement up to which an attribute is reliable."""
FEWEST_CELLS = 50
ALMOST_ALWAYS = 0.9
"""Share of a class's training cells from which a value is expected of the class elsewhere."""
FEWEST_OF_CLASS = 10
"""Cells of a class below which a laboratory says nothing about its attributes."""


def read_attributes(paths: Sequence[Path]) -> Table:
    """Read tables of attributes with the column img_name and one column for each attribute.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is no such table, the columns differ, or a cell has two rows that
            differ.
    """
    found: Table = {}
    columns: list[str] | None = None
    for path in paths:
        for line, row in csv_rows(path.read_bytes(), str(path), (NAME,)):
            values = {name: value for name, value in row.items() if name not in OTHERS}
            if list(values) != (columns := columns or list(values)):
                raise ValueError(f"{path} has the attributes {', '.join(values)}, and the first "
                                 f"table has {', '.join(columns)}")  # fmt: skip
            name = PurePosixPath(row[NAME]).name
            if found.setdefault(name, values) != values:
                raise ValueError(f"{path}, line {line}: {name} has two rows that differ")
    if not found or not columns:
        raise ValueError(f"{shorten_list(paths)}: no attributes of any cell")
    return found


def train_attributes(
    model: str,
    ref: str,
    table: Table,
    again: Table | None = None,
    limit: int = 4000,
    elsewhere: Sequence[str] = (),
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> AttributeHead:
    """Train a head on the training cells of a dataset, and score it on its test cells.

    Laboratories without annotated attributes show what the head is worth there by their classes:
    see `class_consistency`.

    Args:
        model: A trained model of the eleven classes, the features of whose stages are used.
        ref: A prepared folder or a Hub dataset.
        table: Attributes of its cells.
        again: The same of other annotators, to measure their agreement.
        limit: Most cells of each split.
        elsewhere: Datasets of other laboratories, with classes; all of their cells are read.
        on_progress: Called with the stage, the number of cells done and the total.

    Raises:
        ValueError: If too few rows of the table join the dataset, or anything cannot be used.
    """
    splits = {split: load_split(ref, split) for split in ("train", "test")}
    joined = _join_splits(splits, table, ref, limit)
    cells = {split: _cells(splits[split], rows, table) for split, rows in joined.items()}
    if not (values := _values(cells["train"])):
        raise ValueError("no attribute has two values among the training cells; nothing to learn")
    agreement = None if again is None else _agreement(table, again, values)
    others = [[each for each in load_splits(other) if len(each)] for other in elsewhere]
    pretrained = load_trained(model)
    runtime = _stage_runtime(pretrained)
    parts = [(splits[split], rows) for split, rows in joined.items()]
    train, test = _read_features(pretrained, runtime, ref, parts, on_progress)
    head = fit_attributes(train, _codes(cells["train"], values), values)
    typical = _typical(splits["train"].labels[joined["train"]], cells["train"], values)
    classes = {splits["test"].name: (test, splits["test"].labels[joined["test"]])}
    for other, domains in zip(elsewhere, others, strict=True):
        parts = [(domain, np.arange(len(domain))) for domain in domains]
        found = np.concatenate(_read_features(pretrained, runtime, other, parts, on_progress))
        classes[domains[0].name] = found, np.concatenate([domain.labels for domain in domains])
    scores = attribute_scores(head.predict(test), _codes(cells["test"], values), values)
    facts = {
        "model": pretrained.revision,
        "head_sha256": head_digest(pretrained.classifier),
        "data": splits["test"].name,
        "num_train": len(joined["train"]),
        "num_test": len(joined["test"]),
        "f1": scores,
        "agreement": agreement,
        "reliable": _reliable(scores, agreement),
        "typical": typical,
        "consistency": {
            name: class_consistency(head, typical, *each) for name, each in classes.items()
        },
    }
    return replace(head, facts=facts, has_stages=True)


def _reliable(scores: Mapping[str, float], agreement: Mapping[str, float] | None) -> list[str]:
    """Return the attributes whose F1 is within WITHIN of the annotators' agreement."""
    if agreement is None:
        return []
    return [name for name, score in scores.items() if score >= agreement[name] - WITHIN]


def _stage_runtime(pretrained: PretrainedModel) -> Runtime:
    """Return torch with the features (N, d) of all stages."""
    pretrained.classifier.eval()
    choice = choose_runtime(pretrained.classifier, pretrained.preprocessing, "torch")
    return replace(choice.runtime, features=partial(stage_features, pretrained.classifier))


def _read_features(
    pretrained: PretrainedModel,
    runtime: Runtime,
    ref: str,
    parts: Sequence[tuple[DomainSplit, NDArray[np.int64]]],
    on_progress: Callable[[str, int, int], None],
) -> list[NDArray[np.float32]]:
    """Return the features (N, d) of all stages for N rows of each part of a dataset."""
    how, _ = preprocessing_for(pretrained, ref)
    return [
        split_features(
            pretrained, runtime, how, domain, rows,
            partial(on_progress, f"{domain.name} {domain.split}"),
        )
        for domain, rows in parts
    ]  # fmt: skip


def _typical(
    labels: NDArray[np.int64],
    cells: Sequence[Mapping[str, str]],
    values: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the share of each value of each attribute among the cells of each class.

    Classes with fewer than FEWEST_CELLS are left out.
    """
    found = {}
    for label in np.unique(labels[labels != UNLABELED]).tolist():
        of_class = [cells[row] for row in np.flatnonzero(labels == label).tolist()]
        if len(of_class) >= FEWEST_CELLS:
            found[NAMES[label]] = {
                name: {
                    value: round(sum(cell[name] == value for cell in of_class) / len(of_class), 3)
                    for value in each
                }
                for name, each in values.items()
            }
    return found


def class_consistency(
    head: AttributeHead,
    typical: Mapping[str, Mapping[str, Mapping[str, float]]],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> dict[str, float]:
    """Return how often cells get the value that their class almost always has.

    It needs no annotated attributes: where nearly all training cells of a class share a value, such
    as the red granules of eosinophils, cells of that class should get it in any laboratory. For an
    attribute whose value differs between classes, it shows what is left of it there.

    Args:
        head: The head.
        typical: Share of each value among the training cells of each class, see `_typical`.
        features: Features of the cells (N, d).
        labels: Class of each cell (N,), named by people.

    Returns:
        Share of such cells by attribute, as a mean over classes. Classes of fewer than
        FEWEST_OF_CLASS cells do not count; attributes without any class are left out.
    """
    predicted = {name: each.argmax(1) for name, each in head.predict(features).items()}
    shares: dict[str, list[float]] = {}
    for label in np.unique(labels[labels != UNLABELED]).tolist():
        rows = labels == label
        if rows.sum() < FEWEST_OF_CLASS:
            continue
        for name, of_values in typical.get(NAMES[label], {}).items():
            value = max(of_values, key=of_values.__getitem__)
            if of_values[value] >= ALMOST_ALWAYS:
                is_typical = predicted[name][rows] == head.values[name].index(value)
                shares.setdefault(name, []).append(float(is_typical.mean()))
    return {name: round(sum(each) / len(each), 3) for name, each in shares.items()}


def _join_splits(
    splits: Mapping[str, DomainSplit], table: Table, ref: str, limit: int
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split that are in the table.

    Raises:
        ValueError: If they are too few.
    """
    joined = {split: _join(domain, table, limit) for split, domain in splits.items()}
    for split, rows in joined.items():
        if len(rows) < FEWEST_CELLS:
            names = [PurePosixPath(each).name for each in splits[split].image_ids]
            raise ValueError(
                f"only {len(rows)} {split} cells of {ref} are in the table of attributes, at least "
                f"{FEWEST_CELLS} are needed; its images are named like {shorten_list(names, 3)}, "
                f"the table's like {shorten_list(sorted(table), 3)}"
            )
    return joined


def attribute_scores(
    probabilities: Mapping[str, NDArray[np.floating[Any]]],
    codes: Mapping[str, NDArray[np.int64]],
    values: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Return the macro-F1 of each attribute over its values that occur."""
    return {
        name: _macro_f1(codes[name], probabilities[name].argmax(1), len(values[name]))
        for name in values
    }


def _macro_f1(true: NDArray[np.int64], predicted: NDArray[np.int64], num: int) -> float:
    from sklearn.metrics import f1_score

    known = true != UNKNOWN
    present = [each for each in range(num) if (true[known] == each).any()]
    if not present:
        return 0.0
    found = f1_score(
        true[known], predicted[known], labels=present, average="macro", zero_division=0
    )
    return float(found)


def _agreement(table: Table, again: Table, values: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the macro-F1 of the second annotators against the first, on their common cells."""
    common = [name for name in again if name in table]
    if not common:
        raise ValueError("no cell of the second table of attributes is in the first one")
    first, second = (_codes([of[name] for name in common], values) for of in (table, again))
    both = {name: (first[name] != UNKNOWN) & (second[name] != UNKNOWN) for name in values}
    if missing := [name for name, known in both.items() if not known.any()]:
        raise ValueError(
            f"the second table has no known values of {shorten_list(missing)} for cells of the "
            "first one, so the annotators' agreement is unknown; add them, or omit --second"
        )
    return {name: _macro_f1(first[name], second[name], len(values[name])) for name in values}


def _join(domain: DomainSplit, table: Table, limit: int) -> NDArray[np.int64]:
    """Return the rows of a split that are in the table, evenly spaced if there are too many."""
    rows = np.array(
        [i for i, name in enumerate(domain.image_ids) if PurePosixPath(name).name in table],
        np.int64,
    )
    if len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
    return rows


def _cells(domain: DomainSplit, rows: NDArray[np.int64], table: Table) -> list[dict[str, str]]:
    return [table[PurePosixPath(domain.image_ids[row]).name] for row in rows]


def _values(cells: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the values of each attribute that occur, without empty ones."""
    names = list(cells[0])
    found = {name: tuple(sorted({cell[name] for cell in cells} - {""})) for name in names}
    return {name: each for name, each in found.items() if len(each) > 1}


def _codes(
    cells: Sequence[Mapping[str, str]], values: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.int64]]:
    """Return the index of each cell's value (N,) by attribute; -1 for values not in `values`."""
    return {
        name: np.array([_place(each, cell.get(name, "")) for cell in cells], np.int64)
        for name, each in values.items()
    }


def _place(values: Sequence[str], value: str) -> int:
    return values.index(value) if value in values else UNKNOWN
