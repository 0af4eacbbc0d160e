"""Select the images of an archive that become rows of the dataset."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_wbc.data.crop import crop_side
from hf_wbc.data.schema import CROP_UM
from hf_wbc.preparation.listing import EntryList, count_differences
from hf_wbc.preparation.scan import Scan
from hf_wbc.preparation.source import ArchiveSpec, Entry, label_id
from hf_wbc.text import shorten_list

_MAX_NAMED = 200


@dataclass(frozen=True)
class Row:
    """One image that becomes a row."""

    entry: Entry
    label: int
    pixel_sha256: str
    """SHA-256 of the frame's pixels."""
    train_only: bool


@dataclass(frozen=True)
class Selection:
    """The selected rows, and what was left out."""

    rows: tuple[Row, ...]
    """Sorted by image id."""
    index: tuple[int, ...]
    """Each row's position in the scan."""
    other_frames: Mapping[str, int]
    """Number of images left out, by frame size such as `366x369`."""
    bad: Mapping[str, str]
    """Why bad images were left out, by image id."""


def select(
    source: ArchiveSpec,
    entries: EntryList,
    scan: Scan,
    *,
    subset: bool = False,
    skip_bad: bool = False,
) -> Selection:
    """Select the images that the source uses.

    An image whose pixels occur under two labels is bad unless the source declares it.

    Args:
        source: The facts of the archive.
        entries: Its images.
        scan: What the first pass found, in the order of `entries.used`.
        subset: Do not check counts and names.
        skip_bad: Leave out bad images instead of failing.

    Raises:
        ValueError: There are bad images, or counts or names differ from `source`; names all of
            them.
    """
    bad: dict[str, str] = {}
    rows: dict[int, Row] = {}
    other_frames: Counter[str] = Counter()
    for place, entry in enumerate(entries.used):
        width, height = (int(side) for side in scan.sizes[place])
        if scan.faults[place]:
            bad[entry.image_id] = str(scan.faults[place])
        elif source.frame_px and (width, height) not in source.frame_px:
            other_frames[f"{width}x{height}"] += 1
        elif source.um_per_px and min(width, height) < crop_side(source.um_per_px):
            bad[entry.image_id] = (
                f"{entry.member}: {width}x{height} px is less than {CROP_UM} um; check the scale "
                "of the source, or leave it out with --skip-bad"
            )
        else:
            rows[place] = _row(source, entry, str(scan.digests[place]))
    for place, reason in _two_labels(source, rows).items():
        bad[rows.pop(place).entry.image_id] = reason
    if bad and not skip_bad:
        reasons = [*bad.values()][:_MAX_NAMED]
        if len(bad) > _MAX_NAMED:
            reasons.append(f"and {len(bad) - _MAX_NAMED:,} more")
        raise ValueError(
            "\n  ".join([f"{len(bad):,} of {len(entries.used):,} images are bad:", *reasons])
        )
    if not subset:
        _check_whole(source, [*rows.values()], entries, bad)
    if not rows:
        sizes = shorten_list([f"{size} px ({number:,})" for size, number in other_frames.items()])
        raise ValueError(f"no images remain; frames are {sizes or 'all bad'}")
    return Selection(
        tuple(rows.values()),
        tuple(rows),
        dict(sorted(other_frames.items())),
        dict(sorted(bad.items())),
    )


def image_ids_sha256(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of the sorted image ids, joined by newlines."""
    return hashlib.sha256(
        "\n".join(sorted(row.entry.image_id for row in rows)).encode()
    ).hexdigest()


def _row(source: ArchiveSpec, entry: Entry, digest: str) -> Row:
    cell = source.labels[entry.source_label]
    assert cell is not None
    fault = source.fault_of(entry.image_id)
    train_only = fault is not None and fault.action == "train_only"
    return Row(entry, label_id(cell), digest, train_only)


def _check_whole(
    source: ArchiveSpec, rows: Sequence[Row], entries: EntryList, bad: Mapping[str, str]
) -> None:
    """Check the counts by class and the digest of all names, allowing for bad images."""
    missing = Counter(_class(source, e) for e in entries.used if e.image_id in bad)
    found = Counter(_class(source, row.entry) for row in rows)
    stated = {
        cell: min(number, max(found[cell], number - missing[cell]))
        for cell, number in source.used_counts.items()
    }
    if different := count_differences(stated, found):
        raise ValueError(
            f"these are not the images of {source.name}: {different}. Download the archive again, "
            "or use --subset to build from what it contains"
        )
    if source.names_sha256 and not bad and image_ids_sha256(rows) != source.names_sha256:
        raise ValueError(
            f"the counts match {source.name} but the file names do not: SHA-256 "
            f"{image_ids_sha256(rows)} instead of {source.names_sha256}. Download the archive "
            "again, or use --subset to build from what it contains"
        )


def _class(source: ArchiveSpec, entry: Entry) -> str:
    return source.labels[entry.source_label] or ""


def _two_labels(source: ArchiveSpec, rows: Mapping[int, Row]) -> dict[int, str]:
    """Find images, by position, whose pixels have several labels without a declared fault."""
    by_pixels: dict[str, list[int]] = {}
    for place, row in rows.items():
        by_pixels.setdefault(row.pixel_sha256, []).append(place)
    declared = [set(fault.image_ids) for fault in source.faults if fault.kind == "two_labels"]
    reasons = {}
    for places in by_pixels.values():
        same = {rows[place].entry.image_id for place in places}
        if len({rows[place].label for place in places}) > 1 and not any(
            same <= d for d in declared
        ):
            for place in places:
                entry = rows[place].entry
                others = shorten_list(sorted(same - {entry.image_id}))
                reasons[place] = (
                    f"{entry.member}: labeled {entry.source_label}, but has the same pixels as "
                    f"{others} with another label; remove the wrong one, declare them in the "
                    "source's faults, or leave them out with --skip-bad"
                )
    return reasons
