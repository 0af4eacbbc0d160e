"""A model's answers as a file: the challenge's submission, CSV or Parquet, whole or not at all.

From a model and images to a file of answers, whole or not at all, by one process or several."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import softmax

from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.inference.batch_predict import BatchPredictions, predict_images
from hf_wbc.preparation.work_folder import WorkFolder, lock_work_folder, report_full_disk
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean, shorten_list

Format = Literal["challenge", "csv", "parquet"]
SUBMISSION = ("Image", "Label", "LabelID")
"""The challenge's columns: a file's name, its class and the class's id."""
COLUMNS = (
    "image_id", "predicted", "predicted_id", *(f"p_{name}" for name in NAMES), "conformal",
    "rejected",
)  # fmt: skip
"""`conformal` are the classes that may be it, likeliest first; it and `rejected` are empty for a
model that was saved without."""
BETWEEN = ";"
"""Classes of a conformal set in a CSV."""


def check_output_file(out: Path, form: Format) -> None:
    """ValueError for a place or a name that such a file cannot have, before anything is done."""
    if form not in get_args(Format):
        raise ValueError(f"unknown format {form!r}; {did_you_mean(form, get_args(Format))}")
    suffix = ".parquet" if form == "parquet" else ".csv"
    if out.is_dir() or out.suffix.lower() != suffix:
        raise ValueError(f"--out is {out}; the format {form} needs a file's name in {suffix}")


def write_predictions(answers: BatchPredictions, out: Path, form: Format) -> None:
    """Write one row an image, in the order of the answers; what is at `out` is replaced.

    ValueError when a submission would name two images alike.
    """
    check_output_file(out, form)
    classes = answers.logits.argmax(1).tolist()
    rows: Iterable[Sequence[object]]
    if form == "challenge":
        names = _file_names(answers.image_ids)
        rows = ((name, NAMES[i], i) for name, i in zip(names, classes, strict=True))
        _write_csv(out, SUBMISSION, rows)
        return
    chances: npt.NDArray[np.float64] = softmax(answers.logits.astype(np.float64), axis=1)
    sets, rejected = _named_sets(answers.sets, chances), _flags(answers.rejected, len(classes))
    if form == "csv":
        rows = (
            (image_id, NAMES[i], i, *(f"{p:.8f}" for p in row), BETWEEN.join(names or ()), away)
            for image_id, i, row, names, away in zip(
                answers.image_ids, classes, chances.tolist(), sets, rejected, strict=True
            )
        )
        _write_csv(out, COLUMNS, rows)
        return
    columns: list[Any] = [
        list(answers.image_ids), [NAMES[i] for i in classes], classes, *chances.T,
        pa.array(sets, pa.list_(pa.string())), pa.array(rejected, pa.bool_()),
    ]  # fmt: skip
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    table = table.append_column("logits", fixed_rows(answers.logits))
    table = table.replace_schema_metadata({"hf_wbc": json.dumps(answers.facts)})
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(out) as temporary:
        pq.write_table(table, temporary)


def _named_sets(
    sets: npt.NDArray[np.bool_] | None, chances: npt.NDArray[np.float64]
) -> list[list[str] | None]:
    """The classes of each set, likeliest first; None each for a model without sets."""
    if sets is None:
        return [None] * len(chances)
    order = np.argsort(-chances, axis=1, kind="stable")
    return [[NAMES[i] for i in row if one[i]] for row, one in zip(order, sets, strict=True)]


def _flags(flags: npt.NDArray[np.bool_] | None, num: int) -> list[bool | None]:
    return [None] * num if flags is None else flags.tolist()


def _write_csv(out: Path, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_replace(out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows(rows)


def _file_names(image_ids: Sequence[str]) -> list[str]:
    """The images' names without their folders."""
    names = [image_id.rpartition("/")[2] for image_id in image_ids]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise ValueError(
            f"a submission names images by their file alone, and {shorten_list(twice)} lie in more than "
            "one folder; give one of the folders, or another --format"
        )
    return names


def predict_to_file(
    model: str,
    ref: str,
    out: Path,
    form: Format,
    *,
    um_per_px: float | None = None,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: Sequence[str] = SPLITS,
    num_proc: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    report: Report = without_progress_bars,
) -> BatchPredictions | None:
    """As `predict_images`, into `out`; None on all processes but the first.

    What is done so far lies in OUT.partial, from where the same command goes on after a kill.
    """
    check_output_file(out, form)
    accelerator = make_accelerator()
    with ExitStack() as stack:
        work = WorkFolder(out)
        if accelerator.is_main_process:
            stack.enter_context(report_full_disk(out))
            work = stack.enter_context(lock_work_folder(out))
        accelerator.wait_for_everyone()
        answers = predict_images(
            model,
            ref,
            work.root,
            accelerator,
            um_per_px=um_per_px,
            cell_fills_frame=cell_fills_frame,
            skip_bad=skip_bad,
            splits=splits,
            num_proc=num_proc,
            engine=engine,
            precision=precision,
            report=report if accelerator.is_main_process else without_progress_bars,
        )
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return None
        write_predictions(answers, out, form)
        work.remove()
    return answers
