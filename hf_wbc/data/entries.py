"""What an archive lists, checked against what its source states, before any image is read."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hf_wbc.data.archive import Archive
from hf_wbc.data.source import Entry, Source
from hf_wbc.text import some


@dataclass(frozen=True)
class Entries:
    """The images of an archive."""

    used: tuple[Entry, ...]
    """Those whose code is one of the eleven classes or unlabelled, sorted by image id."""
    outside: Mapping[str, int]
    """Number of the others by code."""
    skipped: tuple[str, ...]
    """Image ids that are there, and declared as faults to skip."""
    digest: str
    """SHA-256 over the facts of all entries."""


def list_entries(source: Source, archive: Archive, *, subset: bool = False) -> Entries:
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
    return Entries(used, dict(sorted(outside.items())), tuple(sorted(skipped)), _digest(entries))


def differences(stated: Mapping[str, int], found: Mapping[str, int]) -> str:
    """Every count that is not as stated: `BA 3 instead of 1,218; EO 0 instead of 3,117`."""
    return "; ".join(
        f"{name} {found.get(name, 0):,} instead of {number:,}"
        for name, number in stated.items()
        if found.get(name, 0) != number
    )


def _check_codes(source: Source, archive: Archive, entries: Iterable[Entry]) -> None:
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
            f"{archive.path}: class codes that {source.name} does not know: {some(named, 20)}; it "
            f"knows {', '.join(source.labels)}. Check that it is the archive of this source"
        )


def _check_ids(source: Source, archive: Archive, entries: list[Entry]) -> None:
    pattern = re.compile(source.image_id)
    if strange := [entry.member for entry in entries if not pattern.fullmatch(entry.image_id)]:
        raise ValueError(
            f"{archive.path}: {len(strange):,} file names are not as in {source.name}, whose names "
            f"match {source.image_id}: {some(strange, 20)}; give them their published names"
        )
    counts = Counter(entry.image_id for entry in entries)
    if twice := [image_id for image_id, number in counts.items() if number > 1]:
        raise ValueError(
            f"{archive.path}: {len(twice):,} image ids stand for several files: {some(twice, 20)}; "
            "keep one file of each"
        )


def _check_counts(source: Source, archive: Archive, entries: list[Entry]) -> None:
    found = Counter(entry.source_label for entry in entries)
    different = differences(source.archive_counts, found)
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
