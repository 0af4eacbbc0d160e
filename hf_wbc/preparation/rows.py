"""From the images of an archive to the rows of a dataset, or to the reasons why not."""

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
    """Of the frame."""
    train_only: bool


@dataclass(frozen=True)
class Selection:
    """The rows, and what was left out on the way."""

    rows: tuple[Row, ...]
    """Sorted by image id."""
    index: tuple[int, ...]
    """Each row's place in the scan."""
    other_frames: Mapping[str, int]
    """Number of images left out by frame size, `366x369`."""
    bad: Mapping[str, str]
    """What is wrong with the images that were left out because of it, by image id."""


def select(
    source: ArchiveSpec,
    entries: EntryList,
    scan: Scan,
    *,
    subset: bool = False,
    skip_bad: bool = False,
) -> Selection:
    """The images that the source uses.

    ValueError, naming all of them, for bad images unless `skip_bad`, and for counts and names that
    differ from what the source states unless `subset`. Bad is also one image under two labels
    that the source does not declare.
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
                f"{entry.member}: {width}x{height} px are less than {CROP_UM} um; check the scale "
                "of the source, or go on without it with --skip-bad"
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
        raise ValueError(f"no image is left; frames are {sizes or 'all bad'}")
    return Selection(
        tuple(rows.values()),
        tuple(rows),
        dict(sorted(other_frames.items())),
        dict(sorted(bad.items())),
    )


def image_ids_sha256(rows: Sequence[Row]) -> str:
    """SHA-256 of the sorted image ids, joined by newlines."""
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
    """Counts by class and the digest of all names; bad images may be missing from both."""
    missing = Counter(_class(source, e) for e in entries.used if e.image_id in bad)
    found = Counter(_class(source, row.entry) for row in rows)
    stated = {
        cell: min(number, max(found[cell], number - missing[cell]))
        for cell, number in source.used_counts.items()
    }
    if different := count_differences(stated, found):
        raise ValueError(
            f"not the images that {source.name} is made of: {different}. Fetch the archive again, "
            "or build from what is there with --subset"
        )
    if source.names_sha256 and not bad and image_ids_sha256(rows) != source.names_sha256:
        raise ValueError(
            f"the numbers of images are those of {source.name}, their names are not: SHA-256 "
            f"{image_ids_sha256(rows)} instead of {source.names_sha256}. Fetch the archive again, or "
            "build from what is there with --subset"
        )


def _class(source: ArchiveSpec, entry: Entry) -> str:
    return source.labels[entry.source_label] or ""


def _two_labels(source: ArchiveSpec, rows: Mapping[int, Row]) -> dict[int, str]:
    """What is wrong, by place, with equal pixels under several labels that no fault declares."""
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
                    f"{entry.member}: {entry.source_label}, but the same pixels as {others} of "
                    "another label; remove the wrong one, declare them among the source's faults, "
                    "or go on without them with --skip-bad"
                )
    return reasons
