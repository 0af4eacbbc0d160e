"""Read prepared folders and measure every frame in one parallel pass.

Whole frames (config `original`) are used if a folder has them, because the border of a 25 um square
may touch the cell. Of each decoded frame, only a few thumbnails and numbers are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import crop_um
from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.image_io import pixel_sha256
from hf_wbc.data.parallel import WorkerPool, num_cores
from hf_wbc.data.schema import CROP_UM, DEFAULT_CONFIG, PROVENANCE
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.plots.cell_map import DOMAIN_COLORS
from hf_wbc.preparation.duplicates import thumbnail
from hf_wbc.preparation.scan import ProgressCallback
from hf_wbc.records import read_json

SMALL_PX = 32
"""Side in px of the 25 um square in the audit's pixel map."""
SHARP_PX = 128
"""Side in px at which the sharpness of the 25 um square is measured, equal for all scales."""
RING = 0.08
"""Width of the border as a fraction of the frame's sides; narrow enough to exclude the cell."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BORDER = 3 * (len(QUANTILES) + 1)
_CENTRE = 0.15
"""Half the side of the central square, which shows the nucleus, relative to the 25 um square."""


@dataclass(frozen=True, eq=False)
class ImageMeasures:
    """Measurements of one frame."""

    size_px: NDArray[np.int32]
    """Width and height (2,)."""
    digest: str
    """SHA-256 of the pixels."""
    scene: NDArray[np.uint8]
    """Gray thumbnail of the frame (48, 48)."""
    square: NDArray[np.uint8]
    """Gray thumbnail of the 25 um square (48, 48), comparable between scales."""
    small: NDArray[np.uint8]
    """The 25 um square in color (32, 32, 3)."""
    border: NDArray[np.float32]
    """Quantiles of each color in the frame's border, and its grain (NUM_BORDER,)."""
    background: NDArray[np.float32]
    """Median color of the border (3,), 0 to 255."""
    cell: NDArray[np.float32]
    """Mean color of the center (3,), 0 to 255."""
    contrast: float
    """Standard deviation of the gray levels in the 25 um square."""
    sharpness: float
    """Standard deviation of the Laplacian at 5.12 px per um, divided by `contrast`."""


def measure(pixels: NDArray[np.uint8], um_per_px: float | None) -> ImageMeasures:
    """Measure a frame (H, W, 3); without a scale, its short side counts as 25 um."""
    height, width = pixels.shape[:2]
    square = crop_um(pixels, um_per_px or CROP_UM / min(height, width))
    image = Image.fromarray(square)
    small = np.asarray(image.resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX))
    gray = image.convert("L").resize((SHARP_PX, SHARP_PX), Image.Resampling.BOX)
    levels = np.asarray(gray, dtype=np.float32)
    contrast = float(levels.std())
    border = _border(pixels)
    return ImageMeasures(
        size_px=np.array([width, height], dtype=np.int32),
        digest=pixel_sha256(pixels),
        scene=thumbnail(pixels),
        square=thumbnail(square),
        small=small,
        border=border,
        background=border[[QUANTILES.index(0.5) + i * len(QUANTILES) for i in range(3)]],
        cell=_center(small),
        contrast=contrast,
        sharpness=_detail(levels) / max(contrast, 1.0),
    )


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each color's quantiles in the border, then each color's mean neighbor difference."""
    height, width = pixels.shape[:2]
    y, x = max(1, round(RING * height)), max(1, round(RING * width))
    strips = [pixels[:y], pixels[-y:], pixels[y:-y, :x], pixels[y:-y, -x:]]
    ring = np.concatenate([strip.reshape(-1, 3) for strip in strips]).T
    counts = [np.bincount(values, minlength=256) for values in ring]
    levels = [np.searchsorted(n.cumsum(), np.array(QUANTILES) * n.sum()) for n in counts]
    steps = [np.abs(np.diff(strip.astype(np.int16), axis=1)) for strip in strips[:2]]
    grain = np.mean([step.mean(axis=(0, 1)) for step in steps], axis=0)
    return np.concatenate([*levels, grain]).astype(np.float32)


def _center(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    middle, half = SMALL_PX // 2, round(_CENTRE * SMALL_PX)
    part = small[middle - half : middle + half, middle - half : middle + half]
    color: NDArray[np.float32] = part.reshape(-1, 3).mean(axis=0, dtype=np.float32)
    return color


def _detail(gray: NDArray[np.float32]) -> float:
    """Return the standard deviation of the Laplacian of (H, W)."""
    center = 4 * gray[1:-1, 1:-1]
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((center - around).std())


_ROWS_PER_JOB = 64


@dataclass(frozen=True, eq=False)
class Folder:
    """One prepared dataset."""

    path: str
    name: str
    """Name of its domain."""
    config: str
    """The config that was read: `original` or `cropped`."""
    um_per_px: float | None
    provenance: dict[str, Any]
    """Content of provenance.json; empty if the file does not exist."""
    splits: tuple[DomainSplit, ...]

    @property
    def declared(self) -> dict[str, str]:
        """Findings that the source declares: kind to a sentence."""
        notes: dict[str, str] = self.provenance.get("declared", {})
        return notes

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)


@dataclass(frozen=True, eq=False)
class FolderReading:
    """Measurements of N cells of all folders, ordered by folder and split."""

    folders: tuple[Folder, ...]
    folder: NDArray[np.int64]
    """Index into `folders` (N,)."""
    split: NDArray[np.int64]
    """Index into SPLITS (N,)."""
    labels: NDArray[np.int64]
    """Class ids (N,); -1 is unlabeled."""
    image_ids: list[str]
    groups: list[str | None]
    digests: list[str]
    """SHA-256 of the frames' pixels."""
    size_px: NDArray[np.int32]
    """Width and height (N, 2); this and the following fields stack those of `ImageMeasures`."""
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
        """Return the rows of a folder."""
        return np.flatnonzero(self.folder == folder)

    def domain(self, row: int) -> str:
        """Return the domain of a row."""
        return self.folders[int(self.folder[row])].name


def open_folders(paths: Sequence[str]) -> tuple[Folder, ...]:
    """Open prepared datasets.

    Raises:
        ValueError: No folder or more than a map can show, a path that is not a prepared dataset, or
            a
            domain that occurs twice.
    """
    if not 0 < len(paths) <= len(DOMAIN_COLORS):
        raise ValueError(
            f"{len(paths)} folders to audit; give 1 to {len(DOMAIN_COLORS)} folders that "
            "`hf-wbc prepare` wrote"
        )
    folders: list[Folder] = []
    for path in paths:
        if not Path(path).is_dir():
            raise ValueError(
                f"{path}: no such folder; give one that `hf-wbc prepare` wrote, or download "
                "one with "
                "`hf download ORG/NAME --repo-type dataset --local-dir FOLDER`"
            )
        folder = _open(path)
        for other in folders:
            if folder.name == other.name:
                raise ValueError(
                    f"{other.path} and {path} are both {folder.name!r}; give each dataset once"
                )
        folders.append(folder)
    return tuple(folders)


def _open(path: str) -> Folder:
    config = "original" if (Path(path) / "original").is_dir() else DEFAULT_CONFIG
    splits = tuple(load_splits(path, config=config))
    note = Path(path) / PROVENANCE
    provenance = read_json(note) if note.exists() else {}
    first = splits[0]
    if len({(split.name, split.um_per_px) for split in splits}) != 1:
        raise ValueError(f"{path}: its splits differ in domain or scale; prepare it again")
    return Folder(path, first.name, config, first.um_per_px, provenance, splits)


def read_folder(
    folders: Sequence[Folder],
    num_proc: int | None = None,
    on_progress: ProgressCallback | None = None,
) -> FolderReading:
    """Decode and measure every frame.

    Args:
        folders: The opened datasets.
        num_proc: Number of processes; None uses every core.
        on_progress: Called with the stage, the images done and their total.

    Raises:
        ValueError: A frame is damaged, smaller than 25 um, or lossless with other pixels than its
            `pixel_sha256` states; names the frame.
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
    found: list[list[ImageMeasures]] = [[] for _ in jobs]
    with WorkerPool(min(num_proc, len(jobs)), domains) as workers:
        for job, result in workers.run(measure_rows, jobs):
            found[job] = result
            done += len(result)
            if on_progress:
                on_progress("read", done, total)
    return _stack(tuple(folders), [measures for part in found for measures in part])


def measure_rows(
    domains: Sequence[DomainSplit], number: int, start: int, stop: int
) -> list[ImageMeasures]:
    """Decode and measure the rows `start` to `stop` of the domain with that number."""
    domain = domains[number]
    columns = ["image", "image_id", "pixel_sha256"]
    rows = domain.dataset.with_format("arrow").select_columns(columns)[start:stop].to_pylist()
    return [_measure_row(domain, row) for row in rows]


def _measure_row(domain: DomainSplit, row: dict[str, Any]) -> ImageMeasures:
    name = f"{domain.ref}: {row['image_id']}"
    pixels = decode_row(row, name)
    try:
        return measure(pixels, domain.um_per_px)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _stack(folders: tuple[Folder, ...], found: Sequence[ImageMeasures]) -> FolderReading:
    domains = [(f, s, d) for f, folder in enumerate(folders) for s, d in enumerate(folder.splits)]

    def each(values: Sequence[int]) -> NDArray[np.int64]:
        return np.repeat(np.array(values, dtype=np.int64), [len(d) for _, _, d in domains])

    def stacked(name: str) -> NDArray[Any]:
        return np.stack([getattr(measures, name) for measures in found])

    names = ("size_px", "scene", "square", "small", "border", "background", "cell")
    return FolderReading(
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
