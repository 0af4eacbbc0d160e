"""Read prepared folders: what their rows say, and one pass over every frame, in parallel.

Whole frames are read where a folder has them (`original`); the border of a 25 um square may touch
the cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.audit.measure import Measures, measure
from hf_wbc.data.dataset import Domain, load_domains
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.data.parallel import Workers, num_cores
from hf_wbc.data.schema import DEFAULT_CONFIG
from hf_wbc.plots.cell_map import DOMAIN_COLOURS
from hf_wbc.prepare.scan import Report
from hf_wbc.prepare.work_folder import PROVENANCE
from hf_wbc.records import read_json

_ROWS_PER_JOB = 64
_PNG = b"\x89PNG"


@dataclass(frozen=True, eq=False)
class Folder:
    """One prepared dataset."""

    path: str
    name: str
    """Its domain."""
    config: str
    """Which frames were read: `original` or `cropped`."""
    um_per_px: float | None
    provenance: dict[str, Any]
    """What `hf-wbc prepare` noted; empty where the file is not there."""
    splits: tuple[Domain, ...]

    @property
    def declared(self) -> dict[str, str]:
        """Findings that the source declares: a kind to a sentence about it."""
        notes: dict[str, str] = self.provenance.get("declared", {})
        return notes

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)


@dataclass(frozen=True, eq=False)
class Reading:
    """N cells of all folders, folder by folder and split by split."""

    folders: tuple[Folder, ...]
    folder: NDArray[np.int64]
    """Index into `folders` (N,)."""
    split: NDArray[np.int64]
    """Index into SPLITS (N,)."""
    labels: NDArray[np.int64]
    """Class ids (N,); -1 is unlabelled."""
    image_ids: list[str]
    groups: list[str | None]
    digests: list[str]
    """SHA-256 of the frames' pixels."""
    size_px: NDArray[np.int32]
    """(N, 2); this and the following as in `Measures`."""
    scene: NDArray[np.uint8]
    square: NDArray[np.uint8]
    small: NDArray[np.uint8]
    border: NDArray[np.float32]
    background: NDArray[np.float32]
    cell: NDArray[np.float32]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, folder: int) -> NDArray[np.int64]:
        """The rows of a folder."""
        return np.flatnonzero(self.folder == folder)

    def domain(self, row: int) -> str:
        """A row's domain."""
        return self.folders[int(self.folder[row])].name


def open_folders(paths: Sequence[str]) -> tuple[Folder, ...]:
    """The prepared datasets in `paths`.

    ValueError for no folder, for more than a map can show, for a path that is no prepared dataset,
    and for a domain that is named twice.
    """
    if not 0 < len(paths) <= len(DOMAIN_COLOURS):
        raise ValueError(
            f"{len(paths)} folders to audit; name 1 to {len(DOMAIN_COLOURS)} that `hf-wbc prepare` "
            "wrote"
        )
    folders: list[Folder] = []
    for path in paths:
        if not Path(path).is_dir():
            raise ValueError(
                f"{path}: no such folder; give one that `hf-wbc prepare` wrote, or fetch one with "
                "`hf download ORG/NAME --repo-type dataset --local-dir FOLDER`"
            )
        folder = _open(path)
        for other in folders:
            if folder.name == other.name:
                raise ValueError(
                    f"{other.path} and {path} are both {folder.name!r}; name each dataset once"
                )
        folders.append(folder)
    return tuple(folders)


def _open(path: str) -> Folder:
    config = "original" if (Path(path) / "original").is_dir() else DEFAULT_CONFIG
    splits = tuple(load_domains(path, config=config))
    note = Path(path) / PROVENANCE
    provenance = read_json(note) if note.exists() else {}
    first = splits[0]
    if len({(split.name, split.um_per_px) for split in splits}) != 1:
        raise ValueError(f"{path}: its splits are of several domains or scales; prepare it again")
    return Folder(path, first.name, config, first.um_per_px, provenance, splits)


def read(
    folders: Sequence[Folder], num_proc: int | None = None, report: Report | None = None
) -> Reading:
    """Decode and measure every frame; `num_proc` None takes every core.

    ValueError names a frame that is damaged, that is smaller than 25 um, or that is a PNG of other
    pixels than its `pixel_sha256` says.
    """
    num_proc = num_cores() if num_proc is None else num_proc
    if num_proc < 1:
        raise ValueError(f"num_proc is {num_proc}; it must be at least 1")
    domains = [split for folder in folders for split in folder.splits]
    jobs = [
        (number, start, min(start + _ROWS_PER_JOB, len(domain)))
        for number, domain in enumerate(domains)
        for start in range(0, len(domain), _ROWS_PER_JOB)
    ]
    total, done = sum(map(len, domains)), 0
    found: list[list[Measures]] = [[] for _ in jobs]
    with Workers(min(num_proc, len(jobs)), domains) as workers:
        for job, result in workers.run(_measure_rows, jobs):
            found[job] = result
            done += len(result)
            if report:
                report("read", done, total)
    return _stack(tuple(folders), [measures for part in found for measures in part])


def _measure_rows(domains: Sequence[Domain], number: int, start: int, stop: int) -> list[Measures]:
    domain = domains[number]
    columns = ["image", "image_id", "pixel_sha256"]
    rows = domain.dataset.with_format("arrow").select_columns(columns)[start:stop].to_pylist()
    return [_measure_row(domain, row) for row in rows]


def _measure_row(domain: Domain, row: dict[str, Any]) -> Measures:
    name, data = f"{domain.ref}: {row['image_id']}", row["image"]["bytes"]
    if data is None:
        raise ValueError(f"{name} is only a path to an image; embed the image's bytes")
    pixels = decode_rgb(data, name)
    try:
        measures = measure(pixels, domain.um_per_px)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if data.startswith(_PNG) and measures.digest != row["pixel_sha256"]:
        raise ValueError(
            f"{name} does not have the pixels that its pixel_sha256 names; fetch it again"
        )
    return measures


def _stack(folders: tuple[Folder, ...], found: Sequence[Measures]) -> Reading:
    domains = [(f, s, d) for f, folder in enumerate(folders) for s, d in enumerate(folder.splits)]

    def each(values: Sequence[int]) -> NDArray[np.int64]:
        return np.repeat(np.array(values, dtype=np.int64), [len(d) for _, _, d in domains])

    def stacked(name: str) -> NDArray[Any]:
        return np.stack([getattr(measures, name) for measures in found])

    names = ("size_px", "scene", "square", "small", "border", "background", "cell")
    return Reading(
        folders=folders,
        folder=each([f for f, _, _ in domains]),
        split=each([s for _, s, _ in domains]),
        labels=np.concatenate([domain.labels for _, _, domain in domains]),
        image_ids=[image_id for _, _, domain in domains for image_id in domain.image_ids],
        groups=[group for _, _, domain in domains for group in domain.dataset["group"]],
        digests=[measures.digest for measures in found],
        contrast=np.array([measures.contrast for measures in found], dtype=np.float32),
        sharpness=np.array([measures.sharpness for measures in found], dtype=np.float32),
        **{name: stacked(name) for name in names},
    )
