"""The images of the 2022 challenge "Help a hematologist out!": WBC_1 and WBC_2.

WBC_1 is the development set and WBC_2 the test set. Both come from one laboratory, as folders of
numbered files without labels and without a license. The two sets share file names, so only the
folder distinguishes them. The owner of a copy may have labels, either as a table in the submission
format (Image,Label,LabelID) or in the challenge's metadata.csv. This module reads both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard

from hf_wbc.preparation.listing import listing
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec, Entry, ReadableArchive
from hf_wbc.taxonomy import NAMES, class_id
from hf_wbc.text import csv_rows, shorten_list

METADATA_COLUMNS = ("Image", "file", "label", "dataset", "set", "mean1", "mean2", "mean3")
DATASETS = ("Ace_20", "Mat_19", "WBC1", "WBC2")
_NO_LABEL = ("", "nan", "data-val", "data-test")
"""Values in place of a class: metadata.csv gives the folder name for the challenge's images."""


def read_labels(data: bytes, name: str, dataset: str) -> dict[str, str]:
    """Read class names by image id from a label table or from metadata.csv.

    Args:
        data: Contents of the table.
        name: Name of the table in error messages.
        dataset: Dataset whose rows to read if the table is metadata.csv.

    Raises:
        ValueError: If an image occurs twice, a class is unknown, Label and LabelID disagree, or
            metadata.csv leaves images of the dataset unlabeled.
    """
    if _is_metadata(data):
        listed = read_metadata(data, name).get(dataset, {})
        if not _is_labeled(listed):
            raise ValueError(
                f"{name} has no labels for {sum(label is None for label in listed.values())} of "
                f"its {len(listed)} images of {dataset}: the challenge did not publish them; omit "
                "--labels, or use your own table (Image,Label,LabelID)"
            )
        return listed
    labels: dict[str, str] = {}
    for line, row in csv_rows(data, name, ("Image", "Label")):
        place = f"{name}, line {line}"
        image_id, label = _image_id(row["Image"]), row["Label"]
        expected = _class_id(label, place)
        if row.get("LabelID", str(expected)) != str(expected):
            raise ValueError(
                f"{place}: the LabelID of {label} is {expected}, not {row['LabelID']!r}; fix one"
            )
        if image_id in labels:
            raise ValueError(f"{place}: {image_id} already has a label; keep one line")
        labels[image_id] = label
    if not labels:
        raise ValueError(f"{name} contains no labels; use a table with a line for each image")
    return labels


def read_metadata(data: bytes, name: str) -> dict[str, dict[str, str | None]]:
    """Read class names by dataset and image id from metadata.csv.

    Returns:
        The class name of each image, or None if it has no label. Empty if the table is not a
        metadata.csv.

    Raises:
        ValueError: If a dataset or class is unknown, an image occurs twice in a dataset, or a row's
            file belongs to another image.
    """
    if not _is_metadata(data):
        return {}
    listed: dict[str, dict[str, str | None]] = {}
    for line, row in csv_rows(data, name, METADATA_COLUMNS):
        place = f"{name}, line {line}"
        dataset, image_id = row["dataset"], _image_id(row["Image"])
        if dataset not in DATASETS:
            raise ValueError(
                f"{place}: unknown dataset {dataset!r}; choose from {', '.join(DATASETS)}"
            )
        if _image_id(re.split(r"[/\\]", row["file"])[-1]) != image_id:
            raise ValueError(
                f"{place}: Image is {image_id}, but file is {row['file']}; use the original table"
            )
        images = listed.setdefault(dataset, {})
        if image_id in images:
            raise ValueError(f"{place}: {image_id} of {dataset} occurs twice; keep one line")
        label = None if row["label"].lower() in _NO_LABEL else row["label"]
        if label is not None or dataset in ("Ace_20", "Mat_19"):
            _class_id(row["label"], place)
        images[image_id] = label
    return listed


def _is_metadata(data: bytes) -> bool:
    titles = data.partition(b"\n")[0].decode("utf-8-sig", "replace").split(",")
    return set(METADATA_COLUMNS) <= {title.strip() for title in titles}


def _is_labeled(listed: Mapping[str, str | None]) -> TypeGuard[dict[str, str]]:
    return bool(listed) and None not in listed.values()


def _image_id(file_name: str) -> str:
    return re.sub(r"(?i)\.tif$", ".TIF", file_name)


def _class_id(label: str, place: str) -> int:
    try:
        return class_id(label)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


_IMAGE_ID = r"(?:0|[1-9][0-9]{0,3})\.TIF"


@dataclass(frozen=True)
class Part:
    """The properties that differ between the two sets."""

    name: str
    repo: str
    folder: str
    """Folder that holds the files."""
    dataset: str
    """Name of the set in metadata.csv."""
    num_images: int
    purpose: str


WBC_1 = Part("wbc_1", "wbc-1", "DATA-VAL", "WBC1", 1591, "development set")
WBC_2 = Part("wbc_2", "wbc-2", "DATA-TEST", "WBC2", 1586, "test set")
PARTS = (WBC_1, WBC_2)


def build(part: Part, labels: Path | None = None) -> ArchiveSpec:
    """Build the spec of one set.

    Args:
        part: The set.
        labels: The owner's label table, if any.

    Raises:
        ValueError: If the table has the wrong format, names an image twice, names an unknown class,
            or has no labels for this set.
    """
    truth = None
    if labels is not None:
        truth = read_labels(labels.read_bytes(), str(labels), part.dataset)
    return ArchiveSpec(
        name=part.name,
        repo=part.repo,
        title=f"{part.name.upper()}: the {part.purpose} of 'Help a hematologist out!' 2022",
        homepage="https://helmholtz-data-challenges.de/web/challenges/challenge-page/93/overview",
        license="other",
        redistributable=False,
        citation="""\
@misc{hematologist2022challenge,
  author = {{Helmholtz Data Challenges}},
  title  = {Help a hematologist out!},
  year   = {2022},
  url    = {https://helmholtz-data-challenges.de/web/challenges/challenge-page/93/overview}
}""",
        description=(
            f"Single white blood cells from peripheral blood, the {part.purpose} of the challenge "
            "'Help a hematologist out!' of 2022, in which models trained on Acevedo_20 and "
            "Matek_19 had to classify the cells of another laboratory. Frames are compressed "
            "TIFFs of 288x288 px, 25.0 x 25.0 um."
        ),
        um_per_px=1 / 11.52,
        image_id=_IMAGE_ID,
        labels={name: name for name in NAMES} if truth else {UNLABELED_CODE: UNLABELED_CODE},
        walk=partial(_walk, part, truth),
        archive_counts={} if truth else {UNLABELED_CODE: part.num_images},
        used_counts={} if truth else {UNLABELED_CODE: part.num_images},
        num_images=part.num_images,
        frame_px=frozenset({(288, 288)}),
        notes=(
            "No license was stated: never publish these images or put them where others can load "
            "them. This folder was built from its owner's copy, for the owner's use.",
            "Labels are the owner's; the challenge provided none."
            if truth
            else "The challenge provided no labels: every label is -1.",
            "The archive does not state which images are of the same person, so splits are by "
            "image.",
            "Frames are already 25 um wide, so the crop is the whole frame.",
            "Files are numbered with gaps, and WBC_1 and WBC_2 use the same numbers: an image id "
            "is unique only within its set.",
            "MLL23 is from the same laboratory and has the same scale; it is not stated whether it "
            "contains these images.",
        ),
    )


def _walk(part: Part, truth: Mapping[str, str] | None, archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the files `DATA-VAL/12.TIF`, each with the label that the owner supplied."""
    members = _members(part, archive)
    if truth is not None:
        _compare(members, truth, "the table of labels")
    for name in archive.names:
        if name.rpartition("/")[2].lower() == "metadata.csv":
            listed = read_metadata(archive.read(name), name).get(part.dataset, {})
            if listed:
                _compare(members, listed, name)
            for image_id, label in listed.items():
                if label and truth and truth[image_id] != label:
                    raise ValueError(
                        f"{image_id} is {label} in {name} and {truth[image_id]} in the table of "
                        "labels; fix one of them"
                    )
    return (
        Entry(members[image_id], image_id, truth[image_id] if truth else UNLABELED_CODE)
        for image_id in sorted(members)
    )


def _members(part: Part, archive: ReadableArchive) -> dict[str, str]:
    """Map image ids to members; ValueError for another archive or for unexpected files."""
    folders = {name.rpartition("/")[0] for name in archive.names}
    own = sorted(path for path in folders if _is_folder(path, part))
    if not own:
        other = next((p for p in PARTS if any(_is_folder(path, p) for path in folders)), None)
        hint = f"; {other.folder} belongs to the source {other.name}" if other else ""
        raise ValueError(
            f"this is not {part.name.upper()}: looked for files such as {part.folder}/12.TIF, but "
            f"found {listing(archive.names)}; give the folder that contains {part.folder}{hint}"
        )
    if len(own) > 1:
        raise ValueError(f"{part.folder} occurs here more than once: {', '.join(own)}; give one")
    members: dict[str, str] = {}
    strange = []
    for name in archive.names:
        if not name.startswith(f"{own[0]}/"):
            continue
        image_id = re.sub(r"(?i)\.tif$", ".TIF", name.rpartition("/")[2])
        if not re.fullmatch(_IMAGE_ID, image_id) or name.rpartition("/")[0] != own[0]:
            strange.append(name)
        elif image_id in members:
            raise ValueError(f"{members[image_id]} and {name} are both {image_id}; keep one")
        else:
            members[image_id] = name
    if strange:
        raise ValueError(
            f"{own[0]} contains files that are not of {part.name.upper()}, whose names are numbers "
            f"(12.TIF): {shorten_list(strange)}; use the original folder"
        )
    return members


def _is_folder(path: str, part: Part) -> bool:
    return path.rpartition("/")[2].lower() == part.folder.lower()


def _compare(members: Mapping[str, str], listed: Mapping[str, object], name: str) -> None:
    """Raise ValueError unless the table lists exactly the images that are present."""
    differences = {
        "does not list": sorted(members.keys() - listed.keys()),
        "lists missing images:": sorted(listed.keys() - members.keys()),
    }
    found = [f"{what} {shorten_list(ids)}" for what, ids in differences.items() if ids]
    if found:
        raise ValueError(f"{name} {', and '.join(found)}; use a table and a folder that match")
