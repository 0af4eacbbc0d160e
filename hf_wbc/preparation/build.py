"""Build a dataset folder from an archive: scan, check, split, write.

The folder appears in one step once it is complete. An interrupted build resumes where it stopped.
The resulting bytes depend neither on interruptions nor on the number of processes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_wbc import __version__
from hf_wbc.data.archive import Archive, open_archive
from hf_wbc.data.archive_names import name_fault, name_faults, printable_name
from hf_wbc.data.crop import crop_side
from hf_wbc.data.parallel import WorkerPool, num_cores
from hf_wbc.data.schema import CONFIGS, CROP_UM, PROVENANCE, SPLITS, row_features
from hf_wbc.preparation.dataset_card import CardFacts, write_card
from hf_wbc.preparation.duplicates import Duplicates, find_duplicates, keep_together
from hf_wbc.preparation.listing import EntryList, list_entries
from hf_wbc.preparation.rows import Row, Selection, image_ids_sha256, select
from hf_wbc.preparation.scan import BATCH, ProgressCallback, Scan, scan
from hf_wbc.preparation.shards import (
    ROWS_PER_SHARD,
    Shard,
    ShardFormat,
    Written,
    find_written,
    plan_shards,
    write_shard,
)
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec
from hf_wbc.preparation.split import FRACTIONS, assign_splits
from hf_wbc.preparation.toy_source import is_toy, to_toy_source, toy_name
from hf_wbc.preparation.work_folder import (
    check_disk,
    flush_to_disk,
    is_finished,
    lock_work_folder,
    report_full_disk,
)
from hf_wbc.records import digest, remove, write_json
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import shorten_list

FORMAT = 1
"""Increased whenever a new version of this code would write different rows."""
_NOT_IN_PLAN = ("title", "homepage", "citation", "description", "notes", "walk")
"""Fields of a source that affect no row: texts, and code whose effect is in the entries."""
_SCAN = "scan.npz"
_PNG_SHARE = 0.5
"""Upper bound of the size of a stained cell's PNG, relative to its raw pixels."""


@dataclass(frozen=True)
class _Builder:
    """What is known after the archive has been scanned."""

    source: ArchiveSpec
    seed: int
    entries: EntryList
    selection: Selection
    duplicates: Duplicates
    splits: Sequence[str]

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.selection.rows


def prepare(
    source: ArchiveSpec,
    archive: Path,
    out: Path,
    *,
    subset: bool = False,
    skip_bad: bool = False,
    num_proc: int | None = None,
    seed: int = 0,
    name_encoding: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Build the dataset of a source from an archive and return its folder.

    A folder that already holds the same build is left untouched.

    Args:
        source: The facts of the archive; toy archives are recognized and use `to_toy_source`.
        archive: Folder, .zip, .tar or compressed .tar.
        out: The dataset's folder.
        subset: Accept an incomplete archive and build from what it contains; the card says so.
        skip_bad: Leave out bad images instead of failing; the card lists them.
        num_proc: Number of processes; None uses every core.
        seed: Seed of the splits and of the order of rows.
        name_encoding: Encoding of file names in a zip or tar; None detects it.
        on_progress: Called with the stage, the images done and their total.

    Returns:
        The resolved path of `out`.

    Raises:
        ValueError: The archive, an image or the output folder is not as expected; names every
            problem.
        OSError: The disk is full.
        ChildProcessError: A worker process died.
    """
    on_progress = on_progress or _silent
    out = out.resolve()
    num_proc = _check_arguments(archive, out, num_cores() if num_proc is None else num_proc)
    with report_full_disk(out), lock_work_folder(out) as work:
        opened = open_archive(archive, work.scratch, name_encoding)
        unreadable = _unreadable(opened, skip_bad)
        source = _toy_source(source, archive, out) if is_toy(opened.names) else source
        entries = list_entries(source, opened, subset=subset)
        plan = _plan(source, opened, entries, subset=subset, skip_bad=skip_bad, seed=seed)
        if is_finished(out, plan):
            work.remove()
            return out
        folder = work.build({**plan, **_versions()})
        with WorkerPool(min(num_proc, -(-len(entries.used) // BATCH)), opened) as workers:
            scanned = _scan_once(workers, entries, folder, on_progress)
            with _forget_scan_of_faults(folder):
                selection = select(source, entries, scanned, subset=subset, skip_bad=skip_bad)
            selection = replace(selection, bad={**selection.bad, **unreadable})
            build = _decide(source, entries, selection, scanned, seed, on_progress)
            written = _write(workers, build, scanned, folder, on_progress)
        provenance = {**_provenance(build, plan), "notes": list(opened.notes)}
        _write_texts(folder, source, _card_facts(build, written, subset), provenance)
        work.finish(folder)
    return out


def _check_arguments(archive: Path, out: Path, num_proc: int) -> int:
    """Return `num_proc`; ValueError if it or the output folder cannot be used."""
    if num_proc < 1:
        raise ValueError(f"--num-proc is {num_proc}; give 1 or more")
    if out.is_relative_to(archive.resolve()) and archive.is_dir():
        raise ValueError(f"{out} is inside the archive {archive}; choose another --out")
    return num_proc


def _toy_source(source: ArchiveSpec, archive: Path, out: Path) -> ArchiveSpec:
    """Return the source of a toy archive; ValueError if `out` is named like the real dataset."""
    if out.name == source.name:
        raise ValueError(
            f"{archive} is a toy archive, but {out} has the real dataset's name; use --out "
            f"{out.with_name(toy_name(source.name))}"
        )
    return to_toy_source(source)


def _write_texts(
    folder: Path, source: ArchiveSpec, facts: CardFacts, provenance: Mapping[str, Any]
) -> None:
    """Write the card and the provenance into the build's output."""
    write_card(folder / "temporary" / "README.md", source, facts, provenance)
    write_json(folder / "temporary" / PROVENANCE, provenance)
    for name in ("README.md", PROVENANCE):
        flush_to_disk(folder / "temporary" / name, folder / "out" / name)


def _unreadable(archive: Archive, skip_bad: bool) -> dict[str, str]:
    """Return why files with unreadable names are left out, by name; ValueError if they may not."""
    names = archive.unreadable_names
    if names and not skip_bad:
        raise ValueError(
            f"{archive.path}: {len(names):,} file names {name_faults(names)}: "
            f"{shorten_list([*map(printable_name, names)])}; rename the files, name the encoding "
            "of a zip or tar with --zip-encoding, or leave them out with --skip-bad"
        )
    shown = {name: printable_name(name) for name in names}
    return {shown[name]: f"{shown[name]}: {name_fault(name)}; rename the file" for name in names}


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _plan(
    source: ArchiveSpec,
    archive: Archive,
    entries: EntryList,
    *,
    subset: bool,
    skip_bad: bool,
    seed: int,
) -> dict[str, Any]:
    """Return everything that determines the rows, under names that an error can mention."""
    facts = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NOT_IN_PLAN}
    facts["licence"] = facts.pop("license")  # the key in plans of folders that exist already
    facts["declared"] = sorted(source.declared)
    facts["faults"] = [(fault.image_ids, fault.kind, fault.action) for fault in source.faults]
    text = json.dumps(facts, default=_plain, sort_keys=True)
    return {
        "source": hashlib.sha256(text.encode()).hexdigest(),
        "archive": archive.digest,
        "entries": entries.digest,
        "seed": seed,
        "subset": subset,
        "skip_bad": skip_bad,
        "format": [FORMAT, CROP_UM, list(FRACTIONS), ROWS_PER_SHARD],
    }


def _plain(value: object) -> object:
    """Convert a source's sets and mappings for JSON."""
    assert isinstance(value, frozenset | Mapping), value
    return sorted(value) if isinstance(value, frozenset) else dict(value)


def _versions() -> dict[str, str]:
    libraries = ("datasets", "huggingface-hub", "numpy", "pillow", "pyarrow")
    return {"hf_wbc": __version__} | {name: version(name) for name in libraries}


def _scan_once(
    workers: WorkerPool, entries: EntryList, folder: Path, on_progress: ProgressCallback
) -> Scan:
    path = folder / _SCAN
    if not path.exists():
        scan(workers, entries.used, on_progress).save(path)
    return Scan.load(path)


@contextmanager
def _forget_scan_of_faults(folder: Path) -> Iterator[None]:
    """Delete the scan after a ValueError: an extra may be missing, or a disk fail today only."""
    try:
        yield
    except ValueError:
        remove(folder / _SCAN)
        raise


def _decide(
    source: ArchiveSpec,
    entries: EntryList,
    selection: Selection,
    scanned: Scan,
    seed: int,
    on_progress: ProgressCallback,
) -> _Builder:
    """Find duplicates and assign splits."""
    rows = selection.rows
    on_progress("compare", 0, len(rows))
    thumbnails = scanned.thumbnails[list(selection.index)]
    duplicates = find_duplicates([row.pixel_sha256 for row in rows], thumbnails)
    on_progress("compare", len(rows), len(rows))
    ids = [row.entry.image_id for row in rows]
    together = keep_together(ids, [row.entry.group for row in rows], duplicates)
    splits = assign_splits(
        [row.label for row in rows],
        together,
        train_only=[row.train_only for row in rows],
        seed=seed,
    )
    return _Builder(source, seed, entries, selection, duplicates, [str(split) for split in splits])


def _write(
    workers: WorkerPool, build: _Builder, scanned: Scan, folder: Path, on_progress: ProgressCallback
) -> list[tuple[Shard, Written]]:
    """Write the shards that do not exist yet."""
    shards = plan_shards(build.rows, build.splits, build.seed)
    form = ShardFormat(
        str(folder), build.source.name, build.source.um_per_px, row_features().arrow_schema
    )
    written = {shard.name: find_written(folder, shard) for shard in shards}
    missing = [shard for shard in shards if written[shard.name] is None]
    check_disk(folder, _estimate(build, scanned, sum(len(shard.rows) for shard in missing)))
    done = len(build.rows) - sum(len(shard.rows) for shard in missing)
    for number, result in workers.run(write_shard, [(form, shard) for shard in missing]):
        written[missing[number].name] = result
        done += result.num_rows
        on_progress("write", done, len(build.rows))
    return [(shard, note) for shard in shards if (note := written[shard.name])]


def _estimate(build: _Builder, scanned: Scan, num_rows: int) -> int:
    """Estimate the bytes that `num_rows` rows take in both configs, erring on the high side."""
    index = list(build.selection.index)
    raw = 3 * scanned.sizes[index].astype("int64").prod(axis=1)
    frame = scanned.num_bytes[index].clip(max=(_PNG_SHARE * raw).astype("int64"))
    scale = build.source.um_per_px
    crop = 3 * crop_side(scale) ** 2 * _PNG_SHARE if scale else frame.mean()
    return int(num_rows * (frame.mean() + crop))


def _card_facts(
    build: _Builder, written: Sequence[tuple[Shard, Written]], subset: bool
) -> CardFacts:
    counts = {name: dict.fromkeys(SPLITS, 0) for name in (*NAMES, UNLABELED_CODE)}
    for row, split in zip(build.rows, build.splits, strict=True):
        counts[NAMES[row.label] if row.label >= 0 else UNLABELED_CODE][split] += 1
    num_bytes = {config: Counter(dict.fromkeys(SPLITS, 0)) for config in CONFIGS}
    file_bytes = Counter(dict.fromkeys(CONFIGS, 0))
    for shard, note in written:
        for config in CONFIGS:
            num_bytes[config][shard.split] += note.num_bytes[config]
            file_bytes[config] += note.file_bytes[config]
    return CardFacts(
        subset=subset,
        seed=build.seed,
        counts={name: row for name, row in counts.items() if any(row.values())},
        num_bytes=num_bytes,
        file_bytes=file_bytes,
        content=_content(build),
        has_groups=any(row.entry.group for row in build.rows),
        num_identical=sum(len(same) for same in build.duplicates.identical),
        num_overlapping=len(build.duplicates.overlapping),
        outside=build.entries.outside,
        other_frames=build.selection.other_frames,
        skipped=build.entries.skipped,
        bad=build.selection.bad,
    )


def _content(build: _Builder) -> str:
    """Return a digest of the content of the rows."""
    rows = [
        [row.entry.image_id, row.label, row.entry.group, split, row.pixel_sha256]
        for row, split in zip(build.rows, build.splits, strict=True)
    ]
    return digest({"rows": rows, "domain": build.source.name, "um": build.source.um_per_px})


def _provenance(build: _Builder, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the folder was made from, for people and for `is_finished`."""
    ids = [row.entry.image_id for row in build.rows]

    def named(groups: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[ids[row] for row in rows] for rows in groups]

    return {
        "domain": build.source.name,
        "plan": dict(plan),
        "versions": _versions(),
        "num_rows": {split: build.splits.count(split) for split in SPLITS},
        "names_sha256": image_ids_sha256(build.rows),
        "content": _content(build),
        "identical": named(build.duplicates.identical),
        "overlapping": named(build.duplicates.overlapping),
        "declared": dict(build.source.declared),
        "train_only": [row.entry.image_id for row in build.rows if row.train_only],
        "outside": dict(build.entries.outside),
        "other_frames": dict(build.selection.other_frames),
        "skipped": list(build.entries.skipped),
        "bad": dict(build.selection.bad),
    }
