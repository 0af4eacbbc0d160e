"""What an archive lists, checked against what its source states, before any image is read.

Finding the images of an archive whose classes are folders: `.../FOLDER/CODE_number.suffix`.

Copies of one archive differ in where its folders lie, in upper and lower case, and in what was
added to file names on the way; a zip that was unpacked into a folder of its own name has that
folder twice. The entries are the same for all of them."""

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
    """Those whose code is one of the eleven classes or unlabelled, sorted by image id."""
    outside: Mapping[str, int]
    """Number of the others by code."""
    skipped: tuple[str, ...]
    """Image ids that are there, and declared as faults to skip."""
    digest: str
    """SHA-256 over the facts of all entries."""


def list_entries(source: ArchiveSpec, archive: Archive, *, subset: bool = False) -> EntryList:
    """The archive's entries; ValueError for whatever the source does not state, named all at once.

    Checked are codes, image ids and, unless `subset`, the number of images of each code.
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
            f"{archive.path} has no image of a class that {source.name} uses; check that it is "
            "the archive of this source"
        )
    outside = Counter(entry.source_label for entry in entries)
    for code, cell in source.labels.items():
        if cell is not None:
            del outside[code]
    return EntryList(used, dict(sorted(outside.items())), tuple(sorted(skipped)), _digest(entries))


def count_differences(stated: Mapping[str, int], found: Mapping[str, int]) -> str:
    """Every count that is not as stated: `BA 3 instead of 1,218; EO 0 instead of 3,117`."""
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
            f"{archive.path}: class codes that {source.name} does not know: {shorten_list(named, 20)}; it "
            f"knows {', '.join(source.labels)}. Check that it is the archive of this source"
        )


def _check_ids(source: ArchiveSpec, archive: Archive, entries: list[Entry]) -> None:
    pattern = re.compile(source.image_id)
    if strange := [entry.member for entry in entries if not pattern.fullmatch(entry.image_id)]:
        raise ValueError(
            f"{archive.path}: {len(strange):,} file names are not as in {source.name}, whose names "
            f"match {source.image_id}: {shorten_list(strange, 20)}; give them their published names"
        )
    counts = Counter(entry.image_id for entry in entries)
    if twice := [image_id for image_id, number in counts.items() if number > 1]:
        raise ValueError(
            f"{archive.path}: {len(twice):,} image ids stand for several files: {shorten_list(twice, 20)}; "
            "keep one file of each"
        )


def _check_counts(source: ArchiveSpec, archive: Archive, entries: list[Entry]) -> None:
    found = Counter(entry.source_label for entry in entries)
    different = count_differences(source.archive_counts, found)
    if not different and source.num_images not in (None, len(entries)):
        different = f"{len(entries):,} images instead of {source.num_images:,}"
    if different:
        raise ValueError(
            f"{archive.path} is not the whole archive of {source.name}: {different}. Fetch it "
            "again, or build from what is there with --subset"
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
    """Entries in the order of their image ids.

    `folders` maps a folder, in lower case, to the codes that it may hold. `published` turns a
    copy's file name into the one that the archive was published with; its code is what stands
    before its last underscore. A code that nobody knows is yielded as it stands, so that the
    builder names it; files beside the class folders are passed over unless they are images.

    ValueError when it is another archive, when the folders are there twice, when a file lies in
    the folder of another class, and when two files are one image id.
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
            raise ValueError(f"{name} says {code}, which belongs into the folder {belongs}")
        if other := entries.get(entry.image_id):
            raise ValueError(
                f"{other.member} and {name} are both {entry.image_id}; keep the original one"
            )
        entries[entry.image_id] = entry
    return (entries[image_id] for image_id in sorted(entries))


def listing(names: Collection[str]) -> str:
    """What an archive of these paths holds, in a few words, for an error."""
    counts = Counter(name.rpartition("/")[0] for name in names)
    shown = [f"{folder or 'the top'} ({number} files)" for folder, number in counts.most_common(5)]
    more = [f"{len(counts) - 5} other folders"] if len(counts) > 5 else []
    text = ", ".join([*shown, *more]) + f", such as {min(names)}"
    packed = [name for name in names if name.lower().endswith(_PACKED_SUFFIXES)]
    if not packed:
        return text
    others = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
    return f"{text}; unpack {packed[0]}{others} and give what is in it"


def _place(name: str) -> str:
    """The path without a folder that repeats the one around it."""
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
    """What stands before the class folders in every path, with its slash."""
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
        places = ", ".join(root or "the top" for root in sorted(roots))
        raise ValueError(f"{title} lies here more than once: {places}; give one of them")
    return roots.pop()


def _example(folders: Mapping[str, Collection[str]]) -> str:
    folder, codes = next(iter(folders.items()))
    return f"{folder}/{min(codes)}_..."
