"""Groups of anyone's own cells: which images are of one patient, slide or session.

They come from a table beside the mapping file, or from a pattern in the images' paths.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from unicodedata import normalize

from dataset_scripts._mapping import OwnMapping, folder_key
from hf_wbc.text import csv_rows, some


def read_groups(path: Path) -> dict[str, str]:
    """Group by path or file name, as the table has them; ValueError for an image named twice."""
    data = path.read_bytes()
    titles = data.partition(b"\n")[0].decode("utf-8-sig", "replace").split(",")
    column = "path" if "path" in [title.strip() for title in titles] else "image_id"
    groups: dict[str, str] = {}
    for line, row in csv_rows(data, str(path), (column, "group")):
        key = normalize("NFC", row[column].replace("\\", "/"))
        if key in groups:
            raise ValueError(f"{path}, line {line}: {key} comes twice; keep one line of it")
        groups[key] = normalize("NFC", row["group"])
    return groups


def groups_of(
    own: OwnMapping, table: Mapping[str, str] | None, places: Iterable[str]
) -> dict[str, str | None]:
    """The group of each image by its place `FOLDER/.../name`; None where it is not known.

    ValueError when a table misses an image or has one that is not there, when a pattern does not
    find its group, and for a group that may be a person's name.
    """
    places = list(places)
    if table is not None:
        found = _from_table(own, table, places)
    elif own.group is not None:
        found = {place: _captured(own.group, place) for place in places}
    else:
        return dict.fromkeys(places)
    folders = "|".join(re.escape(folder) for folder in own.classes)
    allowed = re.compile(rf"(?:(?:{folders})/)?(?:{own.name_pattern})", re.IGNORECASE)
    if strange := sorted({g for g in found.values() if g and not allowed.fullmatch(g)}):
        raise ValueError(
            f"groups such as {some(strange, 3)} do not match the pattern {own.name_pattern} and "
            "could be of people; number the groups, or, when these names give nobody away, write a "
            'wider pattern into the mapping: "name_pattern": "..."'
        )
    return found


def _from_table(
    own: OwnMapping, table: Mapping[str, str], places: list[str]
) -> dict[str, str | None]:
    """A path in the table may start above the class folder; a file name alone must be the only."""
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
                f"{own.groups}: {key} may be {some(matches)}; give the column path instead"
            )
        elif matches[0] in found:
            raise ValueError(f"{own.groups}: {key} comes twice; keep one line of it")
        else:
            found[matches[0]] = group or None
    if unknown:
        raise ValueError(
            f"{own.groups} has images that are not there: {some(unknown)}; take them out of it"
        )
    if missing := [place for place in places if place not in found]:
        raise ValueError(
            f"{own.groups} does not have {some(missing)}; give each image a line, with an empty "
            "group where it is not known"
        )
    return found


def _captured(pattern: str, place: str) -> str:
    match = re.search(pattern, place)
    if not match or not match[1]:
        raise ValueError(
            f"the mapping's group {pattern!r} finds nothing in {place}; mend the pattern"
        )
    return match[1]
