"""The own images of the challenge of 2022, "Help a hematologist out!": WBC_1 and WBC_2.

WBC_1 was to develop on, WBC_2 to test. Both come from one laboratory, in folders of numbered files,
without labels and without a licence. File names repeat between the two, so that only the folder
tells them apart. An owner may hold labels, as a table in the form of a submission or in the
challenge's metadata.csv.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataset_scripts import _challenge_tables as tables
from hf_wbc.data.source import UNLABELLED, Entry, Readable, Source
from hf_wbc.data.walk import listing
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import some

_IMAGE_ID = r"(?:0|[1-9][0-9]{0,3})\.TIF"


@dataclass(frozen=True)
class Part:
    """What tells one of the two sets from the other."""

    name: str
    repo: str
    folder: str
    """The folder that holds the files."""
    dataset: str
    """Its name in metadata.csv."""
    num_images: int
    purpose: str


WBC_1 = Part("wbc_1", "wbc-1", "DATA-VAL", "WBC1", 1591, "development set")
WBC_2 = Part("wbc_2", "wbc-2", "DATA-TEST", "WBC2", 1586, "test set")
PARTS = (WBC_1, WBC_2)


def build(part: Part, labels: Path | None = None) -> Source:
    """The source of one set; `labels` is its owner's table.

    ValueError when the table is of another form, names an image twice or a class that does not
    exist, or has no labels of this set.
    """
    truth = None
    if labels is not None:
        truth = tables.read_labels(labels.read_bytes(), str(labels), part.dataset)
    return Source(
        name=part.name,
        repo=part.repo,
        title=f"{part.name.upper()}: the {part.purpose} of 'Help a hematologist out!' 2022",
        homepage="https://helmholtz-data-challenges.de/web/challenges/challenge-page/93/overview",
        licence="other",
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
            "'Help a hematologist out!' of 2022, in which models that were trained on Acevedo_20 "
            "and Matek_19 had to name the cells of another laboratory. Frames are compressed "
            "TIFFs of 288x288 px, 25.0 x 25.0 um."
        ),
        um_per_px=1 / 11.52,
        image_id=_IMAGE_ID,
        labels={name: name for name in NAMES} if truth else {UNLABELLED: UNLABELLED},
        walk=partial(_walk, part, truth),
        archive_counts={} if truth else {UNLABELLED: part.num_images},
        used_counts={} if truth else {UNLABELLED: part.num_images},
        num_images=part.num_images,
        frame_px=frozenset({(288, 288)}),
        notes=(
            "No licence was stated: never publish these images or put them where others can load "
            "them. This folder was built from its owner's own copy, for the owner's own use.",
            "Labels are the owner's; the challenge gave none."
            if truth
            else "The challenge gave no labels: every label is -1.",
            "The archive does not say which images are of one person, so splits are by image.",
            "Frames are 25 um wide already, so the crop is the whole frame.",
            "Files are numbered with gaps, and WBC_1 and WBC_2 use the same numbers: an image id "
            "is unique within its set only.",
            "MLL23 comes from the same laboratory with the same scale; whether these images are "
            "among its own is not stated.",
        ),
    )


def _walk(part: Part, truth: Mapping[str, str] | None, archive: Readable) -> Iterator[Entry]:
    """Files `DATA-VAL/12.TIF`, each with the label that its owner gave."""
    members = _members(part, archive)
    if truth is not None:
        _compare(members, truth, "the table of labels")
    for name in archive.names:
        if name.rpartition("/")[2].lower() == "metadata.csv":
            listed = tables.read_metadata(archive.read(name), name).get(part.dataset, {})
            if listed:
                _compare(members, listed, name)
            for image_id, label in listed.items():
                if label and truth and truth[image_id] != label:
                    raise ValueError(
                        f"{image_id} is {label} in {name} and {truth[image_id]} in the table of "
                        "labels; mend one of them"
                    )
    return (
        Entry(members[image_id], image_id, truth[image_id] if truth else UNLABELLED)
        for image_id in sorted(members)
    )


def _members(part: Part, archive: Readable) -> dict[str, str]:
    """Image id to member; ValueError for another archive and for files that are not of the set."""
    folders = {name.rpartition("/")[0] for name in archive.names}
    own = sorted(path for path in folders if _is_folder(path, part))
    if not own:
        other = next((p for p in PARTS if any(_is_folder(path, p) for path in folders)), None)
        hint = f"; {other.folder} is of the source {other.name}" if other else ""
        raise ValueError(
            f"this is not {part.name.upper()}: looked for files such as {part.folder}/12.TIF, and "
            f"found {listing(archive.names)}; give the folder that holds {part.folder}{hint}"
        )
    if len(own) > 1:
        raise ValueError(f"{part.folder} lies here more than once: {', '.join(own)}; give one")
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
            f"{own[0]} holds files that are not of {part.name.upper()}, whose names are numbers "
            f"(12.TIF): {some(strange)}; take the original folder"
        )
    return members


def _is_folder(path: str, part: Part) -> bool:
    return path.rpartition("/")[2].lower() == part.folder.lower()


def _compare(members: Mapping[str, str], listed: Mapping[str, object], name: str) -> None:
    """ValueError unless a table lists exactly the images that are there."""
    differences = {
        "does not list": sorted(members.keys() - listed.keys()),
        "lists images that are not there:": sorted(listed.keys() - members.keys()),
    }
    found = [f"{what} {some(ids)}" for what, ids in differences.items() if ids]
    if found:
        raise ValueError(
            f"{name} {', and '.join(found)}; give the table and the folder that belong together"
        )
