"""List the images of an archive and check the list against its `ArchiveSpec`.

No image is read at this stage. `list_entries` makes the checks. `class_folders` walks archives
whose folders are classes: `.../FOLDER/CODE_number.suffix`. Copies of one archive differ in where
these folders are, in upper and lower case, and in what was added to file names; a zip that was
unpacked into a folder of its own name contains that folder twice. All of them give the same
entries.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hf_wbc.data.archive import Archive
from hf_wbc.data.image_io import IMAGE_SUFFIXES
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive
from hf_wbc.text import shorten_list


@dataclass(frozen=True)
class EntryList:
    """The images of an archive."""

    used: tuple[Entry, ...]
    """Images with one of the eleven classes or without a label, sorted by image id."""
    outside: Mapping[str, int]
    """Number of images with other codes, by code."""
    skipped: tuple[str, ...]
    """Ids of images that are present but declared as faults to skip."""
    digest: str
    """SHA-256 over the facts of all entries."""


def list_entries(source: ArchiveSpec, archive: Archive, *, subset: bool = False) -> EntryList:
    """List and check the images of an archive.

    Args:
        source: The facts of the archive.
        archive: The opened archive.
        subset: Do not check the number of images of each code.

    Raises:
        ValueError: Codes, image ids or counts differ from `source`; names every difference.
    """
    entries, skipped = [], []
    for entry in source.walk(archive):
        fault = source.fault_of(entry.image_id)
        if fault and fault.action == "skip":
            skipped.append(entry.image_id)
        else:
            entries.append(entry)
    _check_codes(source, archive, entries)
    _check_ids(source, archive, entries)
    if not subset:
        _check_counts(source, archive, entries)
    entries.sort(key=lambda entry: entry.image_id)
    used = tuple(entry for entry in entries if source.labels[entry.source_label] is not None)
    if not used:
        raise ValueError(
            f"{archive.path} contains no image of a class that {source.name} uses; check that it "
            "is the archive of this source"
        )
    outside = Counter(entry.source_label for entry in entries)
    for code, cell in source.labels.items():
        if cell is not None:
            del outside[code]
    return EntryList(used, dict(sorted(outside.items())), tuple(sorted(skipped)), _digest(entries))


def count_differences(stated: Mapping[str, int], found: Mapping[str, int]) -> str:
    """List every count that differs: `BA 3 instead of 1,218; EO 0 instead of 3,117`."""
    return "; ".join(
        f"{name} {found.get(name, 0):,} instead of {number:,}"
        for name, number in stated.items()
        if found.get(name, 0) != number
    )


def _check_codes(source: ArchiveSpec, archive: Archive, entries: Iterable[Entry]) -> None:
    unknown: dict[str, list[str]] = {}
    for entry in entries:
        if entry.source_label not in source.labels:
            unknown.setdefault(entry.source_label, []).append(entry.member)
    if unknown:
        named = [
            f"{code or 'an empty code'} ({len(members):,} files, such as {members[0]})"
            for code, members in sorted(unknown.items())
        ]
        raise ValueError(
            f"{archive.path}: unknown class codes for {source.name}: {shorten_list(named, 20)}; "
            f"known are {', '.join(source.labels)}. Check that it is the archive of this source"
        )


def _check_ids(source: ArchiveSpec, archive: Archive, entries: list[Entry]) -> None:
    pattern = re.compile(source.image_id)
    if unexpected := [entry.member for entry in entries if not pattern.fullmatch(entry.image_id)]:
        raise ValueError(
            f"{archive.path}: {len(unexpected):,} file names do not match the pattern of "
            f"{source.name}, {source.image_id}: {shorten_list(unexpected, 20)}; restore their "
            "published names"
        )
    counts = Counter(entry.image_id for entry in entries)
    if repeated := [image_id for image_id, number in counts.items() if number > 1]:
        raise ValueError(
            f"{archive.path}: {len(repeated):,} image ids belong to more than one file: "
            f"{shorten_list(repeated, 20)}; keep one file of each"
        )


def _check_counts(source: ArchiveSpec, archive: Archive, entries: list[Entry]) -> None:
    found = Counter(entry.source_label for entry in entries)
    different = count_differences(source.archive_counts, found)
    if not different and source.num_images not in (None, len(entries)):
        different = f"{len(entries):,} images instead of {source.num_images:,}"
    if different:
        raise ValueError(
            f"{archive.path} is not the complete archive of {source.name}: {different}. Download "
            "it again, or use --subset to build from what it contains"
        )


def _digest(entries: Iterable[Entry]) -> str:
    lines = hashlib.sha256()
    for entry in entries:
        facts = (entry.member, entry.image_id, entry.source_label, entry.group or "")
        lines.update("\0".join(facts).encode() + b"\n")
    return lines.hexdigest()


_PACKED_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def class_folders(
    archive: ReadableArchive,
    title: str,
    folders: Mapping[str, Collection[str]],
    published: Callable[[str], str] = str,
) -> Iterator[Entry]:
    """List the images of an archive whose folders are classes, in the order of their image ids.

    A file with an unknown code is yielded, so that `list_entries` reports it. Files outside the
    class
    folders are ignored unless they are images.

    Args:
        archive: The archive.
        title: Name of the archive in errors.
        folders: Folder name, in lower case, to the codes that the folder may contain.
        published: Turns the file name of a copy into the published one. The code is what precedes
            the
            last underscore of the published name.

    Raises:
        ValueError: It is a different archive, it contains the folders twice, a file is in the
            folder of
            another class, or two files have the same image id.
    """
    known = {code for codes in folders.values() for code in codes}
    root = _root(archive.names, title, folders, published)
    entries: dict[str, Entry] = {}
    for name in archive.names:
        place = _place(name)
        if not place.startswith(root):
            continue
        *parents, file_name = place.removeprefix(root).split("/")
        codes = folders.get(parents[0].lower()) if len(parents) == 1 else None
        if codes is None and not file_name.lower().endswith(IMAGE_SUFFIXES):
            continue
        entry = _entry(name, published)
        code = entry.source_label
        if code in known and code not in (codes or ()):
            belongs = " or ".join(folder for folder, held in folders.items() if code in held)
            raise ValueError(f"{name} has the code {code}, which belongs in the folder {belongs}")
        if other := entries.get(entry.image_id):
            raise ValueError(
                f"{other.member} and {name} are both {entry.image_id}; keep only the original"
            )
        entries[entry.image_id] = entry
    return (entries[image_id] for image_id in sorted(entries))


def listing(names: Collection[str]) -> str:
    """Summarize the contents of an archive with these paths, for an error message."""
    counts = Counter(name.rpartition("/")[0] for name in names)
    shown = [
        f"{folder or 'the top level'} ({number} files)" for folder, number in counts.most_common(5)
    ]
    more = [f"{len(counts) - 5} other folders"] if len(counts) > 5 else []
    text = ", ".join([*shown, *more]) + f", such as {min(names)}"
    packed = [name for name in names if name.lower().endswith(_PACKED_SUFFIXES)]
    if not packed:
        return text
    others = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
    return f"{text}; unpack {packed[0]}{others} and use what is inside"


def _place(name: str) -> str:
    """Return the path without folders that repeat the name of their parent."""
    *parents, file_name = name.split("/")
    around = ["", *(folder.lower() for folder in parents)]
    kept = (own for own, outer in zip(parents, around, strict=False) if own.lower() != outer)
    return "/".join((*kept, file_name))


def _entry(name: str, published: Callable[[str], str]) -> Entry:
    image_id = published(name.rpartition("/")[2])
    return Entry(name, image_id, image_id.rpartition("_")[0] or image_id)


def _root(
    names: Collection[str],
    title: str,
    folders: Mapping[str, Collection[str]],
    published: Callable[[str], str],
) -> str:
    """Return what precedes the class folders in every path, including the slash."""
    roots = set()
    for name in names:
        above, slash, folder = _place(name).rpartition("/")[0].rpartition("/")
        if _entry(name, published).source_label in folders.get(folder.lower(), ()):
            roots.add(above + slash)
    if not roots:
        raise ValueError(
            f"this is not {title}: looked for the folders {', '.join(folders)} with files such as "
            f"{_example(folders)}, and found {listing(names)}"
        )
    if len(roots) > 1:
        places = ", ".join(root or "the top level" for root in sorted(roots))
        raise ValueError(f"{title} occurs more than once here: {places}; choose one of them")
    return roots.pop()


def _example(folders: Mapping[str, Collection[str]]) -> str:
    folder, codes = next(iter(folders.items()))
    return f"{folder}/{min(codes)}_..."
