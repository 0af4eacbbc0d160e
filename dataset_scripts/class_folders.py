"""A user's own cells: a folder of class folders, described by a small mapping file.

    {"name": "my_lab_24", "um_per_px": 0.09, "classes": {"Baso": "basophil", "Artefact": null}}

Trees with patients are described by their folders, where images of a layout without a class are
unlabeled:

    "layout": ["{patient}/Signed slides/{class}", "{patient}/Unsigned slides"]

Class folders may contain subfolders. Nothing is skipped silently: a folder or file that the mapping
does not cover raises an error that names it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unicodedata import normalize

from dataset_scripts import names
from dataset_scripts._mapping import OwnMapping, folder_key, groups_of, read_groups, read_mapping
from hf_wbc.data.image_io import IMAGE_SUFFIXES
from hf_wbc.preparation.folder_layout import match_layouts
from hf_wbc.preparation.listing import listing
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec, Entry, ReadableArchive
from hf_wbc.text import shorten_list

_BESIDE = (".txt", ".csv", ".json", ".xml", ".md")
"""Suffixes of non-image files that may lie among the images."""
_WIDEN = (
    "rename the files to numbers or, if these names identify nobody, write a "
    'wider pattern into the mapping: "name_pattern": "..."'
)


def configure(mapping: Path) -> ArchiveSpec:
    """Build the source that a mapping file describes; ValueError if the file is invalid."""
    own = read_mapping(mapping)
    if own.name in names():
        raise ValueError(
            f"{mapping}: name is {own.name!r}, which is another source; choose a different name"
        )
    groups = None
    if own.groups is not None:
        groups = read_groups(mapping.parent / own.groups)
    return ArchiveSpec(
        name=own.name,
        repo=f"wbc-{own.name.replace('_', '-')}",
        title=own.title or own.name,
        homepage=own.homepage,
        license=own.license,
        redistributable=own.redistributable,
        citation=own.citation,
        description=own.description or f"White blood cells of {own.name}, sorted into folders.",
        um_per_px=own.um_per_px,
        image_id=_image_id(own),
        labels=_labels(own),
        walk=partial(_walk, own, groups),
        archive_counts={},
        used_counts={},
        frame_px=frozenset(own.frame_px),
        notes=(*own.notes, *_notes(own)),
        declared=own.declared,
    )


def _image_id(own: OwnMapping) -> str:
    """Return the pattern of image ids: file names, prefixed by their folders if ids are paths."""
    suffixes = "|".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    name = rf"(?:{own.name_pattern})\.(?i:{suffixes})"
    if own.image_id == "name":
        return name
    folders = "|".join(re.escape(folder) for folder in _labels(own))
    return rf"(?:{folders})/(?:(?:{own.name_pattern})/)*{name}"


def _notes(own: OwnMapping) -> Iterator[str]:
    """Return the notes that the dataset card states for any such source."""
    yield (
        "The images were described by their owner. The expected number of images per class is "
        "unknown, so missing images cannot be detected."
    )
    if own.um_per_px is None:
        yield (
            "The scale is unknown. The cell fills the frame, so the cropped config contains the "
            "whole frame."
        )
    has_patients = any("{patient}" in layout.text for layout in own.layout)
    if own.groups is None and own.group is None and not has_patients:
        yield (
            "It is unknown which images are of the same person, so splits are by image and scores "
            "within this dataset are optimistic."
        )
    if not own.redistributable:
        yield "Its owner did not permit redistribution: never publish it."


def _walk(
    own: OwnMapping, groups: Mapping[str, str] | None, archive: ReadableArchive
) -> Iterator[Entry]:
    """Yield the images below the class folders."""
    patients: dict[str, str] = {}
    members = laid_out(own, archive, patients) if own.layout else _members(own, archive)
    entries: dict[str, Entry] = {}
    group_of = groups_of(own, groups, members, patients)
    for place, member in members.items():
        image_id = place if own.image_id == "path" else place.rpartition("/")[2]
        if other := entries.get(image_id):
            raise ValueError(
                f'{other.member} and {member} are both {image_id}; write "image_id": "path" into '
                "the mapping, or rename one"
            )
        entries[image_id] = Entry(member, image_id, place.partition("/")[0], group_of[place])
    if strange := [i for i in sorted(entries) if not re.fullmatch(_image_id(own), i)]:
        raise ValueError(
            f"names of {len(strange)} images, such as {shorten_list(strange, 3)}, do not match the "
            f"pattern {own.name_pattern} and may be names of people; {_WIDEN}"
        )
    return (entries[image_id] for image_id in sorted(entries))


def _labels(own: OwnMapping) -> dict[str, str | None]:
    """Return the class of each folder, and the code of images without one."""
    unlabeled = any(not layout.has_class for layout in own.layout)
    return {**own.classes, **({UNLABELED_CODE: UNLABELED_CODE} if unlabeled else {})}


def laid_out(own: OwnMapping, archive: ReadableArchive, patients: dict[str, str]) -> dict[str, str]:
    """Map each image's place CLASS/PATIENT/.../name to its path, as `_members` does, by layout.

    Args:
        own: The mapping, which has a layout.
        archive: The images.
        patients: Filled with the patient of each place.

    Raises:
        ValueError: If images fit no layout or lie in unknown class folders, or two are alike.
    """
    spelled = {folder_key(folder): folder for folder in own.classes}
    members: dict[str, str] = {}
    outside: Counter[str] = Counter()
    for name in archive.names:
        if not name.lower().endswith(IMAGE_SUFFIXES):
            continue
        found = match_layouts(own.layout, name)
        folder = None
        if found is not None:
            layout, match = found
            key = folder_key(match.class_folder)
            folder = spelled.get(key) if layout.has_class else UNLABELED_CODE
        if found is None or folder is None:
            outside[name.rpartition("/")[0] or "the top"] += 1
            continue
        parts = (folder, match.patient, match.visit, match.rest, match.file)
        place = "/".join(part for part in parts if part)
        if place in members:
            raise ValueError(f"{members[place]} and {name} are both {place}; keep one")
        members[place] = name
        if match.patient:
            patients[place] = match.patient
    _require_all_laid_out(own, members, outside)
    return members


def _require_all_laid_out(
    own: OwnMapping, members: Mapping[str, str], outside: Counter[str]
) -> None:
    texts = shorten_list([layout.text for layout in own.layout])
    if outside:
        found = [f"{folder} ({number} images)" for folder, number in outside.most_common()]
        raise ValueError(
            f"images fit neither the layout of {own.name} ({texts}) nor its classes: "
            f"{shorten_list(found)}; add the layout, or the folder to classes with a class or null"
        )
    seen = {place.partition("/")[0] for place in members}
    if missing := [folder for folder in own.classes if folder not in seen]:
        raise ValueError(
            f"the mapping of {own.name} has the classes {shorten_list(missing)}, but no image of "
            f"them lies in the layout {texts}; remove them, or give the complete folder"
        )


def _members(own: OwnMapping, archive: ReadableArchive) -> dict[str, str]:
    """Map each image's place (FOLDER/.../name, as the mapping spells it) to its archive path."""
    spelled = {folder_key(folder): folder for folder in own.classes}
    members: dict[str, str] = {}
    roots, strange = set(), []
    outside: Counter[str] = Counter()
    for name in archive.names:
        *parents, file_name = normalize("NFC", name).split("/")
        keys = [folder_key(folder) for folder in parents]
        at = next((i for i, key in enumerate(keys) if key in spelled), None)
        is_image = file_name.lower().endswith(IMAGE_SUFFIXES)
        if at is None:
            outside.update(["/".join(parents) or "the top"] if is_image else [])
            continue
        roots.add("/".join(parents[:at]) or "the top")
        place = "/".join((spelled[keys[at]], *parents[at + 1 :], file_name))
        if is_image and place in members:
            raise ValueError(f"{members[place]} and {name} are both {place}; keep one")
        if is_image:
            members[place] = name
        elif not file_name.lower().endswith(_BESIDE):
            strange.append(name)
    if not members:
        raise ValueError(
            f"this is not {own.name}: its mapping has the folders {shorten_list(own.classes)}, but "
            f"found {listing(archive.names)}"
        )
    _check_nothing_else(own, roots, outside, strange)
    seen = {place.partition("/")[0] for place in members}
    if missing := [folder for folder in own.classes if folder not in seen]:
        raise ValueError(
            f"the mapping of {own.name} has the folders {shorten_list(missing)}, which are empty; "
            "remove them from its classes, or give the complete folder"
        )
    return members


def _check_nothing_else(
    own: OwnMapping, roots: set[str], outside: Counter[str], strange: list[str]
) -> None:
    """Raise ValueError for a second set of class folders, other folders, or other files."""
    if len(roots) > 1:
        raise ValueError(
            f"the folders of {own.name} occur here more than once: "
            f"{shorten_list(sorted(roots))}; give one "
            "of them"
        )
    if outside:
        found = [f"{folder} ({number} images)" for folder, number in outside.most_common()]
        raise ValueError(
            f"images are in folders that the mapping of {own.name} does not list: "
            f"{shorten_list(found)}; "
            "add each folder to its classes, with a class or null"
        )
    if strange:
        raise ValueError(
            f"files in a class folder that are not images: {shorten_list(strange)}; move them away"
        )
