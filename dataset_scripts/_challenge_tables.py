"""The challenge's tables: labels as in a submission (Image,Label,LabelID), and its metadata.csv."""

import re
from collections.abc import Mapping
from typing import TypeGuard

from hf_wbc.taxonomy import class_id
from hf_wbc.text import csv_rows

METADATA_COLUMNS = ("Image", "file", "label", "dataset", "set", "mean1", "mean2", "mean3")
DATASETS = ("Ace_20", "Mat_19", "WBC1", "WBC2")
_NO_LABEL = ("", "nan", "data-val", "data-test")
"""In place of a class: for its own images metadata.csv gives the folder's name."""


def read_labels(data: bytes, name: str, dataset: str) -> dict[str, str]:
    """Class name by image id, from a table of labels or the rows of `dataset` in metadata.csv.

    ValueError for an image that comes twice, an unknown class, a Label and a LabelID that differ,
    and a metadata.csv that leaves images of the dataset without a label.
    """
    if _is_metadata(data):
        listed = read_metadata(data, name).get(dataset, {})
        if not _is_labelled(listed):
            raise ValueError(
                f"{name} has no labels for {sum(label is None for label in listed.values())} of "
                f"its {len(listed)} images of {dataset}: the challenge kept them back; leave "
                "--labels out, or give your own table (Image,Label,LabelID)"
            )
        return listed
    labels: dict[str, str] = {}
    for line, row in csv_rows(data, name, ("Image", "Label")):
        place = f"{name}, line {line}"
        image_id, label = _image_id(row["Image"]), row["Label"]
        expected = _class_id(label, place)
        if row.get("LabelID", str(expected)) != str(expected):
            raise ValueError(
                f"{place}: the LabelID of {label} is {expected}, not {row['LabelID']!r}; mend one"
            )
        if image_id in labels:
            raise ValueError(f"{place}: {image_id} has a label already; keep one line of it")
        labels[image_id] = label
    if not labels:
        raise ValueError(f"{name} holds no labels; give a table with a line for each image")
    return labels


def read_metadata(data: bytes, name: str) -> dict[str, dict[str, str | None]]:
    """Class name, or None without one, by dataset and image id; nothing for any other table.

    ValueError for an unknown dataset or class, an image that comes twice in a dataset, and a row
    whose file is of another image.
    """
    if not _is_metadata(data):
        return {}
    listed: dict[str, dict[str, str | None]] = {}
    for line, row in csv_rows(data, name, METADATA_COLUMNS):
        place = f"{name}, line {line}"
        dataset, image_id = row["dataset"], _image_id(row["Image"])
        if dataset not in DATASETS:
            raise ValueError(f"{place}: unknown dataset {dataset!r}; it is {', '.join(DATASETS)}")
        if _image_id(re.split(r"[/\\]", row["file"])[-1]) != image_id:
            raise ValueError(
                f"{place}: Image is {image_id}, but file is {row['file']}; take the original table"
            )
        images = listed.setdefault(dataset, {})
        if image_id in images:
            raise ValueError(f"{place}: {image_id} of {dataset} comes twice; keep one line of it")
        label = None if row["label"].lower() in _NO_LABEL else row["label"]
        if label is not None or dataset in ("Ace_20", "Mat_19"):
            _class_id(row["label"], place)
        images[image_id] = label
    return listed


def _is_metadata(data: bytes) -> bool:
    titles = data.partition(b"\n")[0].decode("utf-8-sig", "replace").split(",")
    return set(METADATA_COLUMNS) <= {title.strip() for title in titles}


def _is_labelled(listed: Mapping[str, str | None]) -> TypeGuard[dict[str, str]]:
    return bool(listed) and None not in listed.values()


def _image_id(file_name: str) -> str:
    return re.sub(r"(?i)\.tif$", ".TIF", file_name)


def _class_id(label: str, place: str) -> int:
    try:
        return class_id(label)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
