"""A model's answers as a file: the challenge's submission, CSV or Parquet, whole or not at all."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax

from hf_wbc.data.csv_rows import some
from hf_wbc.engine.embed import fixed_rows
from hf_wbc.engine.predict_images import Answers
from hf_wbc.records import replacing
from hf_wbc.taxonomy import NAMES

Format = Literal["challenge", "csv", "parquet"]
SUBMISSION = ("Image", "Label", "LabelID")
"""The challenge's columns: a file's name, its class and the class's id."""
COLUMNS = ("image_id", "predicted", "predicted_id", *(f"p_{name}" for name in NAMES))


def check_out(out: Path, form: Format) -> None:
    """ValueError for a place or a name that such a file cannot have, before anything is done."""
    if form not in get_args(Format):
        raise ValueError(f"unknown format {form!r}; choose from {', '.join(get_args(Format))}")
    suffix = ".parquet" if form == "parquet" else ".csv"
    if out.is_dir() or out.suffix.lower() != suffix:
        raise ValueError(f"--out is {out}; the format {form} needs a file's name in {suffix}")


def write_answers(answers: Answers, out: Path, form: Format) -> None:
    """Write one row an image, in the order of the answers; what is at `out` is replaced.

    ValueError when a submission would name two images alike.
    """
    check_out(out, form)
    classes = answers.logits.argmax(1).tolist()
    rows: Iterable[Sequence[object]]
    if form == "challenge":
        names = _file_names(answers.image_ids)
        rows = ((name, NAMES[i], i) for name, i in zip(names, classes, strict=True))
        _write_csv(out, SUBMISSION, rows)
        return
    chances: npt.NDArray[np.float64] = softmax(answers.logits.astype(np.float64), axis=1)
    if form == "csv":
        rows = (
            (image_id, NAMES[i], i, *(f"{p:.8f}" for p in row))
            for image_id, i, row in zip(answers.image_ids, classes, chances.tolist(), strict=True)
        )
        _write_csv(out, COLUMNS, rows)
        return
    columns: list[Any] = [list(answers.image_ids), [NAMES[i] for i in classes], classes, *chances.T]
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    table = table.append_column("logits", fixed_rows(answers.logits))
    table = table.replace_schema_metadata({"hf_wbc": json.dumps(answers.facts)})
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        pq.write_table(table, temporary)


def _write_csv(out: Path, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows(rows)


def _file_names(image_ids: Sequence[str]) -> list[str]:
    """The images' names without their folders."""
    names = [image_id.rpartition("/")[2] for image_id in image_ids]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise ValueError(
            f"a submission names images by their file alone, and {some(twice)} lie in more than "
            "one folder; give one of the folders, or another --format"
        )
    return names
