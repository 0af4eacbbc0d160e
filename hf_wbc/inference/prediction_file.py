"""Write a model's predictions to a file: the challenge's submission, CSV or Parquet.

The file appears complete or not at all, whether one process or several compute it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import softmax

from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.escape import write_csv
from hf_wbc.inference.batch_predict import BatchPredictions, predict_images
from hf_wbc.inference.options import PredictOptions
from hf_wbc.preparation.folder_layout import FolderLayout
from hf_wbc.preparation.work_folder import WorkFolder, lock_work_folder, report_full_disk
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean, shorten_list

__all__ = ["COLUMNS", "SET_SEPARATOR", "Format", "predict_to_file", "write_predictions"]

Format = Literal["challenge", "csv", "parquet"]
SUBMISSION_COLUMNS = ("Image", "Label", "LabelID")
"""The challenge's columns: a file's name, its class and the class's id."""
COLUMNS = (
    "image_id", "predicted", "predicted_id", *(f"p_{name}" for name in NAMES), "conformal",
    "rejected", "outlier",
)  # fmt: skip
"""`conformal` lists the classes of the conformal set, most probable first; it and `rejected` are
empty for a model saved without calibration and for a vote of neighbors. `outlier` names the kind of
outlier that a rejected image looks like, such as platelet, if the model's reference set knows kinds
of outliers."""
PATIENT = "patient"
"""Column of the patients, which follows the others if a layout names them."""
SET_SEPARATOR = ";"
"""Separates the classes of a conformal set in a CSV."""


def predict_to_file(
    model: str,
    ref: str,
    out: Path,
    form: Format,
    options: PredictOptions | None = None,
    *,
    neighbors: int | None = None,
    on_progress: Report = without_progress_bars,
) -> BatchPredictions | None:
    """Predict images as `predict_images` does, and write the predictions to a file.

    Finished blocks are kept in OUT.partial, from which the same call resumes after an
    interruption.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        ref: A folder of images, a prepared folder, or a Hub dataset.
        out: The file to write; an existing file is replaced.
        form: challenge or csv for a .csv file, parquet for a .parquet file.
        options: Scale, splits, runtime and so on.
        neighbors: Number of nearest reference cells that vote; None for the model's head.
        on_progress: Called with the number of images done and the total.

    Returns:
        The predictions; None on all processes but the first.

    Raises:
        ValueError: See `predict_images` and `write_predictions`.
    """
    check_output_file(out, form)
    accelerator = make_accelerator()
    with ExitStack() as stack:
        work = WorkFolder(out)
        if accelerator.is_main_process:
            stack.enter_context(report_full_disk(out))
            work = stack.enter_context(lock_work_folder(out))
        accelerator.wait_for_everyone()
        predictions = predict_images(
            model,
            ref,
            work.root,
            accelerator,
            options,
            neighbors=neighbors,
            on_progress=on_progress if accelerator.is_main_process else without_progress_bars,
        )
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return None
        write_predictions(predictions, out, form, options.layout if options else None)
        work.remove()
    return predictions


def check_output_file(out: Path, form: Format) -> None:
    """Raise ValueError if the file's name does not fit the format, before any work is done."""
    if form not in get_args(Format):
        raise ValueError(f"unknown format {form!r}; {did_you_mean(form, get_args(Format))}")
    suffix = ".parquet" if form == "parquet" else ".csv"
    if out.is_dir() or out.suffix.lower() != suffix:
        raise ValueError(f"--out is {out}; the format {form} needs a file name ending in {suffix}")


def write_predictions(
    predictions: BatchPredictions, out: Path, form: Format, layout: str | None = None
) -> None:
    """Write one row per image, in the order of the predictions; an existing file is replaced.

    Args:
        predictions: The predictions.
        out: The file to write.
        form: challenge, csv or parquet.
        layout: Folders of the images, which add the column patient to csv and parquet.

    Raises:
        ValueError: If a submission would name two images alike.
    """
    check_output_file(out, form)
    if form == "challenge":
        classes = predictions.logits.argmax(1).tolist()
        names = _file_names(predictions.image_ids)
        rows = ((name, NAMES[i], i) for name, i in zip(names, classes, strict=True))
        _write_csv(out, SUBMISSION_COLUMNS, rows)
    elif form == "csv":
        rows_of = _csv_rows(predictions)
        if layout is None:
            _write_csv(out, COLUMNS, rows_of)
        else:
            patients = patients_of(predictions.image_ids, layout)
            with_patients = ((*row, who) for row, who in zip(rows_of, patients, strict=True))
            _write_csv(out, (*COLUMNS, PATIENT), with_patients)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(out) as temporary:
            table = _table(predictions)
            if layout is not None:
                table = table.append_column(PATIENT, [patients_of(predictions.image_ids, layout)])
            pq.write_table(table, temporary)


def patients_of(image_ids: Sequence[str], layout: str) -> list[str]:
    """Return the patient of each image by its folders; empty where they name none."""
    read = FolderLayout(layout)
    found = [read.match(image_id) for image_id in image_ids]
    return ["" if match is None else match.patient for match in found]


def _csv_rows(predictions: BatchPredictions) -> Iterable[Sequence[object]]:
    classes = predictions.logits.argmax(1).tolist()
    probabilities = _probabilities(predictions)
    sets = _set_names(predictions.conformal_sets, probabilities)
    rejected = _flags(predictions.rejected, len(classes))
    return (
        (
            image_id, NAMES[i], i, *(f"{p:.8f}" for p in row), SET_SEPARATOR.join(names or ()),
            is_rejected, outlier,
        )
        for image_id, i, row, names, is_rejected, outlier in zip(
            predictions.image_ids, classes, probabilities.tolist(), sets, rejected,
            predictions.outliers, strict=True,
        )
    )  # fmt: skip


def _table(predictions: BatchPredictions) -> pa.Table:
    classes = predictions.logits.argmax(1).tolist()
    probabilities = _probabilities(predictions)
    sets = _set_names(predictions.conformal_sets, probabilities)
    rejected = _flags(predictions.rejected, len(classes))
    columns: list[Any] = [
        list(predictions.image_ids), [NAMES[i] for i in classes], classes, *probabilities.T,
        pa.array(sets, pa.list_(pa.string())), pa.array(rejected, pa.bool_()),
        list(predictions.outliers),
    ]  # fmt: skip
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    table = table.append_column("logits", fixed_rows(predictions.logits))
    return table.replace_schema_metadata({"hf_wbc": json.dumps(predictions.metadata)})


def _probabilities(predictions: BatchPredictions) -> NDArray[np.float64]:
    """Return probabilities (N, 11)."""
    probabilities: NDArray[np.float64] = softmax(predictions.logits.astype(np.float64), axis=1)
    return probabilities


def _set_names(
    sets: NDArray[np.bool_] | None, probabilities: NDArray[np.float64]
) -> list[list[str] | None]:
    """Return the classes of each conformal set, most probable first; None each without sets."""
    if sets is None:
        return [None] * len(probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [[NAMES[i] for i in row if one[i]] for row, one in zip(order, sets, strict=True)]


def _flags(flags: NDArray[np.bool_] | None, num: int) -> list[bool | None]:
    return [None] * num if flags is None else flags.tolist()


def _write_csv(out: Path, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_replace(out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        write_csv(file, titles, rows)


def _file_names(image_ids: Sequence[str]) -> list[str]:
    """Return the images' names without their folders; ValueError if two are the same."""
    names = [image_id.rpartition("/")[2] for image_id in image_ids]
    if repeated := [name for name, number in Counter(names).items() if number > 1]:
        raise ValueError(
            "a submission names images without their folders, but several folders contain "
            f"{shorten_list(repeated)}; predict one of the folders, or choose another --format"
        )
    return names
