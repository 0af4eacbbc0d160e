"""The JSON mapping file that describes a user's own folder of class folders.

File and group names end up in the rows of the dataset, and in a hospital they may contain the names
of people. A mapping therefore states the pattern that names must match, and the default pattern is
narrow.

Groups state which images belong to one patient, slide, or session. They come from a table next to
the mapping file or from a pattern in the image paths.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from unicodedata import normalize

from hf_wbc.preparation.folder_layout import FolderLayout
from hf_wbc.preparation.source import require_declared
from hf_wbc.taxonomy import class_id
from hf_wbc.text import csv_rows, did_you_mean, shorten_list

NAME_PATTERN = r"[A-Za-z]*_?[0-9]{1,6}(_[0-9]{1,6})?"
"""Letters and one or two numbers, such as `12` and `BloodImage_00012_1`; no dates or free text."""

_REQUIRED = ("name", "um_per_px", "classes")
_TEXTS = ("name", "title", "description", "homepage", "citation", "license", "image_id", "groups")
_PATTERNS = ("name_pattern", "group")


@dataclass(frozen=True)
class OwnMapping:
    """The contents of a mapping file; the first three keys are required."""

    name: str
    """Domain name: lowercase letters, digits, and single underscores."""
    um_per_px: float | None
    """Scale in um per pixel; null if the cell fills the frame and the scale is unknown."""
    classes: Mapping[str, str | None]
    """Class name by folder; null if the folder's cells are outside the eleven classes."""
    title: str = ""
    description: str = ""
    homepage: str = ""
    citation: str = ""
    license: str = "other"
    """License identifier on the Hub."""
    redistributable: bool = False
    """Whether the images may be published; true requires a license."""
    notes: tuple[str, ...] = ()
    declared: Mapping[str, str] = field(default_factory=dict)
    """Known `hf-wbc audit` findings: an explanatory sentence by kind of finding."""
    name_pattern: str = NAME_PATTERN
    """Regular expression that every file name (without its suffix) and group must match in full."""
    image_id: str = "name"
    """`name`, or `path` (folder/name) if folders reuse file names."""
    frame_px: tuple[tuple[int, int], ...] = ()
    """Width and height of the frames to use; the card counts frames of other sizes."""
    groups: str | None = None
    """Table of groups next to the mapping file, with the columns group and path (or image_id)."""
    group: str | None = None
    """Regular expression searched for in folder/name; its capture is the group."""
    layout: tuple[FolderLayout, ...] = ()
    """Folders such as `{patient}/Signed slides/{class}`; the patient is the group. Images of a
    layout without `{class}` are unlabeled."""


def read_mapping(path: Path) -> OwnMapping:
    """Read and validate a mapping; a ValueError names the file, the key, and the remedy."""
    try:
        raw = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_object)
        if not isinstance(raw, dict):
            raise ValueError("it is not a JSON object, { ... }")
        _require_text(raw)
        return _mapping(raw)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as JSON in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be a mapping") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def folder_key(folder: str) -> str:
    """Normalize a folder name so that case and Unicode composition do not matter."""
    return normalize("NFC", normalize("NFC", folder).casefold())


def _mapping(raw: dict[str, Any]) -> OwnMapping:
    if "licence" in raw and "license" not in raw:  # the spelling in earlier releases
        raw = {("license" if key == "licence" else key): value for key, value in raw.items()}
    _check_keys(raw)
    patterns = {key: normalize("NFC", raw[key]) for key in _PATTERNS if raw.get(key)}
    mapping = OwnMapping(
        **{
            **raw,
            **patterns,
            "um_per_px": _scale(raw["um_per_px"]),
            "classes": _classes(raw["classes"]),
            "notes": tuple(_list(raw, "notes", str, "sentences")),
            "layout": _layouts(raw.get("layout", [])),
            "frame_px": tuple(_size(size) for size in _list(raw, "frame_px", list, "sizes")),
        }
    )
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", mapping.name):
        raise ValueError(
            f"name is {mapping.name!r}; use lowercase letters, digits and underscores, such as "
            "my_lab_24"
        )
    if not isinstance(mapping.declared, dict):
        raise ValueError(
            f'declared is {mapping.declared!r}; write {{ "finding": "sentence", ... }}'
        )
    require_declared(mapping.declared)
    if mapping.image_id not in ("name", "path"):
        raise ValueError(f"image_id is {mapping.image_id!r}; choose from name, path")
    if not isinstance(mapping.redistributable, bool):
        raise ValueError(f"redistributable is {mapping.redistributable!r}; write true or false")
    if mapping.redistributable and "license" not in raw:
        raise ValueError("redistributable is true without a license; add one, such as cc-by-4.0")
    if any("{patient}" in layout.text for layout in mapping.layout) and (
        mapping.groups is not None or mapping.group is not None
    ):
        raise ValueError("layout names the patient, which is the group; leave out groups and group")
    if mapping.layout and not any(layout.has_class for layout in mapping.layout):
        raise ValueError("layout names no {class}; add a layout that does")
    if mapping.groups is not None and mapping.group is not None:
        raise ValueError("groups and group exclude each other; keep one of them")
    if mapping.group is not None and re.compile(mapping.group).groups != 1:
        raise ValueError(f"group is {mapping.group!r}; put one pair of ( ) around the group")
    return mapping


def _require_text(raw: dict[str, Any]) -> None:
    """Raise ValueError for half of a pair of surrogates, which no file can hold."""
    text = json.dumps(raw, ensure_ascii=False)
    if bad := re.search("[\ud800-\udfff]", text):
        place = text[max(0, bad.start() - 20) : bad.start()]
        raise ValueError(f"after {place!r}, {bad[0]!r} is no character; write the text itself")


def _check_keys(raw: dict[str, Any]) -> None:
    """Raise ValueError for unknown or missing keys and for invalid strings and patterns."""
    known = [key.name for key in fields(OwnMapping)]
    for key in raw:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; {did_you_mean(key, known)}")
    if missing := [key for key in _REQUIRED if key not in raw]:
        raise ValueError(
            f"no {' and no '.join(missing)}; a mapping requires {', '.join(_REQUIRED)}"
        )
    for key in (*_TEXTS, *_PATTERNS):
        if key in raw and not isinstance(raw[key], str):
            raise ValueError(f"{key} is {raw[key]!r}; write a text in quotes")
    for key in _PATTERNS:
        try:
            re.compile(raw.get(key, ""))
        except re.error as error:
            raise ValueError(
                f"{key} is not a valid regular expression: {raw[key]!r} ({error})"
            ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object and reject duplicate keys."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice; keep one of them")
        found[key] = value
    return found


def _list(raw: dict[str, Any], key: str, kind: type, what: str) -> list[Any]:
    values = raw.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{key} is {values!r}; write a list of {what}")
    return values


def _layouts(value: object) -> tuple[FolderLayout, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"layout is {value!r}; write a text in quotes, or a list of texts")
    return tuple(map(FolderLayout, texts))


def _size(size: list[Any]) -> tuple[int, int]:
    match size:
        case [int(width), int(height)] if width > 0 and height > 0:
            return width, height
    raise ValueError(f"frame_px contains {size!r}; write [width, height] in pixels")


def _scale(value: object) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= sys.float_info.max  # an integer can be larger
    ):
        raise ValueError(
            f"um_per_px is {value!r}; write um per pixel as a number such as 0.1, or null when the "
            "cell fills the frame and the scale is unknown"
        )
    return float(value)


def _classes(value: object) -> dict[str, str | None]:
    if not isinstance(value, dict):
        raise ValueError(f'classes is {value!r}; write {{ "folder": "class", ... }}')
    keys: dict[str, str] = {}
    for folder, name in value.items():
        key = folder_key(folder)
        if not folder or "/" in folder or "\\" in folder:
            raise ValueError(
                f"classes contains the folder {folder!r}; write the folder's name only"
            )
        if key in keys:
            raise ValueError(f"classes has {keys[key]!r} and {folder!r}, which are the same folder")
        keys[key] = folder
        if name is not None:
            try:
                class_id(name if isinstance(name, str) else repr(name))
            except ValueError as error:
                raise ValueError(
                    f"classes has {folder!r}: {error}; null excludes a folder"
                ) from None
    if not any(value.values()):
        raise ValueError(
            "classes contains no folder with a class; give at least one folder a class"
        )
    return {normalize("NFC", folder): name for folder, name in value.items()}


def read_groups(path: Path) -> dict[str, str]:
    """Read groups by path or file name; ValueError if an image is listed twice."""
    if not path.is_file():  # such as /dev/zero, which has no end
        raise ValueError(f"groups is {path}, which is not a file; give a CSV table")
    data = path.read_bytes()
    titles = data.partition(b"\n")[0].decode("utf-8-sig", "replace").split(",")
    column = "path" if "path" in [title.strip() for title in titles] else "image_id"
    groups: dict[str, str] = {}
    for line, row in csv_rows(data, str(path), (column, "group")):
        key = normalize("NFC", row[column].replace("\\", "/"))
        if key in groups:
            raise ValueError(f"{path}, line {line}: {key} occurs twice; keep one line")
        groups[key] = normalize("NFC", row["group"])
    return groups


def groups_of(
    own: OwnMapping,
    table: Mapping[str, str] | None,
    places: Iterable[str],
    patients: Mapping[str, str] | None = None,
) -> dict[str, str | None]:
    """Return the group of each image by its place `FOLDER/.../name`; None if unknown.

    Args:
        own: The mapping.
        table: Groups by path or file name.
        places: The images.
        patients: Patient of each image by its place, if the mapping's layout names patients.

    Raises:
        ValueError: If the table misses an image or lists one that is not present, if the pattern
            does not match a path, or if a group may be a person's name.
    """
    places = list(places)
    if table is not None:
        found = _from_table(own, table, places)
    elif patients:
        found = {place: patients.get(place) or None for place in places}
    elif own.group is not None:
        found = {place: _captured(own.group, place) for place in places}
    else:
        return dict.fromkeys(places)
    folders = "|".join(re.escape(folder) for folder in own.classes)
    allowed = re.compile(rf"(?:(?:{folders})/)?(?:{own.name_pattern})", re.IGNORECASE)
    if strange := sorted({g for g in found.values() if g and not allowed.fullmatch(g)}):
        raise ValueError(
            f"groups such as {shorten_list(strange, 3)} do not match the pattern "
            f"{own.name_pattern} and "
            "may be names of people; number the groups or, if they identify nobody, write a "
            'wider pattern into the mapping: "name_pattern": "..."'
        )
    return found


def _from_table(
    own: OwnMapping, table: Mapping[str, str], places: list[str]
) -> dict[str, str | None]:
    """Look up groups in the table.

    A path in the table may start above the class folder. A bare file name must be unique.
    """
    by_place = {folder_key(place): place for place in places}
    by_name: dict[str, list[str]] = {}
    for place in places:
        by_name.setdefault(folder_key(place.rpartition("/")[2]), []).append(place)
    found: dict[str, str | None] = {}
    unknown = []
    for key, group in table.items():
        parts = folder_key(key).split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        matches = [by_place[end] for end in ends if end in by_place]
        if len(parts) == 1:
            matches = by_name.get(parts[0], [])
        if not matches:
            unknown.append(key)
        elif len(matches) > 1:
            raise ValueError(
                f"{own.groups}: {key} is ambiguous: {shorten_list(matches)}; use the column path "
                "instead"
            )
        elif matches[0] in found:
            raise ValueError(f"{own.groups}: {key} occurs twice; keep one line")
        else:
            found[matches[0]] = group or None
    if unknown:
        raise ValueError(f"{own.groups} lists missing images: {shorten_list(unknown)}; remove them")
    if missing := [place for place in places if place not in found]:
        raise ValueError(
            f"{own.groups} lacks {shorten_list(missing)}; add a line for each image, with an empty "
            "group if unknown"
        )
    return found


def _captured(pattern: str, place: str) -> str:
    match = re.search(pattern, place)
    if not match or not match[1]:
        raise ValueError(f"the mapping's group {pattern!r} does not match {place}; fix the pattern")
    return match[1]
