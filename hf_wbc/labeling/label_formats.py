"""Exchange labels with Label Studio (JSON) and CVAT (XML, "CVAT for images 1.1").

Exports hold the cells to label; imports turn what the tools export into answers. Cells are named by
their path within the folder, which both tools keep.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlparse
from xml.etree import ElementTree

from hf_wbc.data.labels_file import OTHER, SKIP, Answer, parse_class, read_answers
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import parse_xml

__all__ = ["export_cells", "import_answers"]

_LABELS = (*NAMES, OTHER, SKIP)
_IMAGE_KEY = "image_id"
_UPLOADED = re.compile("^[0-9a-f]{8}-")
"""What Label Studio puts before the name of a file that is uploaded to it."""


TOOL_SUFFIXES = (".json", ".xml")
"""Lowercase suffixes of the files of Label Studio and of CVAT."""


def check_export(path: Path) -> None:
    """Raise ValueError if the name of a file to write does not say for which tool it is."""
    if path.suffix.lower() not in TOOL_SUFFIXES:
        raise ValueError(f"{path} ends in neither .json (Label Studio) nor .xml (CVAT)")


def export_cells(path: Path, image_ids: Sequence[str], answers: Iterable[Answer] = ()) -> None:
    """Write cells for Label Studio (.json) or CVAT (.xml), with the labels that they have.

    Raises:
        ValueError: If the file name ends in neither.
    """
    check_export(path)
    label_of = {answer.image_id: answer.label for answer in answers}
    if path.suffix.lower() == ".json":
        text = json.dumps([_task(each, label_of.get(each)) for each in image_ids], indent=1)
    else:
        text = _cvat(image_ids, label_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def import_answers(path: Path, known: Sequence[str]) -> list[Answer]:
    """Read labels from a labels file (.csv), a Label Studio export (.json) or a CVAT one (.xml).

    Args:
        path: The file.
        known: Ids of the cells; a tool's own path ends in one of them.

    Raises:
        ValueError: If the file is damaged or has an unknown class.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_answers(path)
    by_name: dict[str, list[str]] = {}
    ids = frozenset(known)
    for image_id in known:
        by_name.setdefault(PurePosixPath(image_id).name, []).append(image_id)
    if suffix == ".json":
        found = _label_studio(path)
    elif suffix == ".xml":
        found = _from_cvat(path)
    else:
        raise ValueError(
            f"{path} is none of .csv, .json (Label Studio) and .xml (CVAT); of a zip of CVAT, give "
            "the annotations.xml in it"
        )
    return [
        Answer(
            place if place in ids else _cell(place, by_name),
            _label(text, path, place),
            reader,
            seconds,
        )
        for place, text, reader, seconds in found
    ]


def _task(image_id: str, label: str | None) -> dict[str, Any]:
    task: dict[str, Any] = {
        "data": {"image": f"/data/local-files/?d={quote(image_id)}", _IMAGE_KEY: image_id}
    }
    if label is not None:
        choice = {
            "from_name": "label", "to_name": "image", "type": "choices",
            "value": {"choices": [label]},
        }  # fmt: skip
        task["annotations"] = [{"result": [choice]}]
    return task


def _label_studio(path: Path) -> list[tuple[str, str, str, float | None]]:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
        found = []
        for task in tasks:
            data = task["data"]
            place = str(data.get(_IMAGE_KEY) or data["image"])
            for annotation in task.get("annotations", []):
                chosen = [
                    choice
                    for result in annotation.get("result", [])
                    for choice in result.get("value", {}).get("choices", [])
                ]
                seconds = annotation.get("lead_time")
                reader = _reader(annotation.get("completed_by"))
                if annotation.get("was_cancelled"):
                    chosen = [SKIP]
                if len(chosen) > 1:
                    raise ValueError(f"{place} has {len(chosen)} choices; allow a single one")
                took = None if seconds is None else float(seconds)
                found += [(place, str(each), reader, took) for each in chosen]
    except (
        AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} is not a Label Studio export ({error!r}); export the project as JSON"
        ) from error
    return found


def _reader(who: Any) -> str:
    """Return who annotated: Label Studio states a number, a user, or nothing."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return "" if who is None else str(who)


def _cvat(image_ids: Sequence[str], label_of: dict[str, str]) -> str:
    if bad := [each for each in image_ids if not each.isprintable()]:
        raise ValueError(f"XML cannot hold the name {bad[0]!r}; rename the file, or export .json")
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "size").text = str(len(image_ids))
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name in _LABELS:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = "tag"
    for number, image_id in enumerate(image_ids):
        image = ElementTree.SubElement(root, "image", id=str(number), name=image_id)
        if image_id in label_of:
            ElementTree.SubElement(image, "tag", label=label_of[image_id], source="manual")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _from_cvat(path: Path) -> list[tuple[str, str, str, float | None]]:
    root = parse_xml(path.read_bytes(), f"{path}, an export of `CVAT for images 1.1`,")
    found: list[tuple[str, str, str, float | None]] = []
    for image in root.iter("image"):
        tags = [tag.get("label", "") for tag in image.findall("tag")]
        if len(tags) > 1:
            raise ValueError(f"{path}: {image.get('name')} has {len(tags)} tags; keep one")
        found += [(image.get("name", ""), tag, "", None) for tag in tags]
    return found


def _cell(place: str, by_name: dict[str, list[str]]) -> str:
    """Return the id of the cell that a tool's path or address ends in; else the path itself."""
    try:
        url = urlparse(place)
        path = parse_qs(url.query).get("d", [unquote(url.path)])[0]
    except ValueError:  # no address, such as //[a]/b.png
        path = place
    is_address = place.startswith("/data/") or "://" in place
    for shown in (path,) if is_address else (place, path):
        same = by_name.get(PurePosixPath(shown).name, [])
        if found := [each for each in same if f"/{shown}".endswith(f"/{each}")]:
            return max(found, key=len)  # of `7.png` and `b/7.png`, `a/b/7.png` is the second
    name = PurePosixPath(path).name
    uploaded = by_name.get(_UPLOADED.sub("", name), [])
    return uploaded[0] if "/data/upload/" in path and len(uploaded) == 1 else path


def _label(text: str, path: Path, place: str) -> str:
    try:
        return parse_class(text)
    except ValueError as error:
        raise ValueError(f"{path}, {place}: {error}") from error
