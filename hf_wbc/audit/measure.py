"""Read prepared folders: what their rows say, and one pass over every frame, in parallel.

Whole frames are read where a folder has them (`original`); the border of a 25 um square may touch
the cell.

What the audit keeps of one decoded frame: a few thumbnails and numbers, never the frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import crop_um
from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.image_io import decode_rgb, pixel_sha256
from hf_wbc.data.parallel import WorkerPool, num_cores
from hf_wbc.data.schema import CROP_UM, DEFAULT_CONFIG
from hf_wbc.plots.cell_map import DOMAIN_COLOURS
from hf_wbc.preparation.duplicates import thumbnail
from hf_wbc.preparation.scan import ProgressCallback
from hf_wbc.preparation.work_folder import PROVENANCE
from hf_wbc.records import read_json

SMALL_PX = 32
"""Side of the 25 um square as the audit's map of pixels sees it."""
SHARP_PX = 128
"""Side of the 25 um square on which sharpness is measured, so that scales can be compared."""
RING = 0.08
"""Width of the border as a part of the frame's sides; narrow enough that no cell reaches it."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BORDER = 3 * (len(QUANTILES) + 1)
_CENTRE = 0.15
"""Half the side of the central square, where the nucleus lies, as a part of the 25 um square."""


@dataclass(frozen=True, eq=False)
class ImageMeasures:
    """One frame, or, in a `Reading`, N of them stacked."""

    size_px: NDArray[np.int32]
    """Width and height (2,)."""
    digest: str
    """SHA-256 of the pixels."""
    scene: NDArray[np.uint8]
    """Grey thumbnail of the frame (48, 48)."""
    square: NDArray[np.uint8]
    """Grey thumbnail of the 25 um square (48, 48), which frames of other scales share."""
    small: NDArray[np.uint8]
    """The 25 um square in colour (32, 32, 3)."""
    border: NDArray[np.float32]
    """Quantiles of each colour in the frame's border, and its grain (NUM_BORDER,)."""
    background: NDArray[np.float32]
    """The border's median colour (3,), 0 to 255."""
    cell: NDArray[np.float32]
    """The centre's mean colour (3,), 0 to 255."""
    contrast: float
    """Standard deviation of the 25 um square's grey levels."""
    sharpness: float
    """Standard deviation of the Laplacian at 5.12 px per um, over `contrast`."""


def measure(pixels: NDArray[np.uint8], um_per_px: float | None) -> ImageMeasures:
    """Measure a frame (H, W, 3); without a scale its short side stands for 25 um."""
    height, width = pixels.shape[:2]
    square = crop_um(pixels, um_per_px or CROP_UM / min(height, width))
    image = Image.fromarray(square)
    small = np.asarray(image.resize((SMALL_PX, SMALL_PX), Image.Resampling.BOX))
    grey = image.convert("L").resize((SHARP_PX, SHARP_PX), Image.Resampling.BOX)
    levels = np.asarray(grey, dtype=np.float32)
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
        cell=_centre(small),
        contrast=contrast,
        sharpness=_detail(levels) / max(contrast, 1.0),
    )


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each colour's quantiles in the border, then each colour's mean step between neighbours."""
    height, width = pixels.shape[:2]
    y, x = max(1, round(RING * height)), max(1, round(RING * width))
    strips = [pixels[:y], pixels[-y:], pixels[y:-y, :x], pixels[y:-y, -x:]]
    ring = np.concatenate([strip.reshape(-1, 3) for strip in strips]).T
    counts = [np.bincount(values, minlength=256) for values in ring]
    levels = [np.searchsorted(n.cumsum(), np.array(QUANTILES) * n.sum()) for n in counts]
    steps = [np.abs(np.diff(strip.astype(np.int16), axis=1)) for strip in strips[:2]]
    grain = np.mean([step.mean(axis=(0, 1)) for step in steps], axis=0)
    return np.concatenate([*levels, grain]).astype(np.float32)


def _centre(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    middle, half = SMALL_PX // 2, round(_CENTRE * SMALL_PX)
    part = small[middle - half : middle + half, middle - half : middle + half]
    colour: NDArray[np.float32] = part.reshape(-1, 3).mean(axis=0, dtype=np.float32)
    return colour


def _detail(grey: NDArray[np.float32]) -> float:
    """Standard deviation of the Laplacian of (H, W)."""
    centre = 4 * grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((centre - around).std())


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
    splits: tuple[DomainSplit, ...]

    @property
    def declared(self) -> dict[str, str]:
        """Findings that the source declares: a kind to a sentence about it."""
        notes: dict[str, str] = self.provenance.get("declared", {})
        return notes

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)


@dataclass(frozen=True, eq=False)
class FolderReading:
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
    splits = tuple(load_splits(path, config=config))
    note = Path(path) / PROVENANCE
    provenance = read_json(note) if note.exists() else {}
    first = splits[0]
    if len({(split.name, split.um_per_px) for split in splits}) != 1:
        raise ValueError(f"{path}: its splits are of several domains or scales; prepare it again")
    return Folder(path, first.name, config, first.um_per_px, provenance, splits)


def read_folder(
    folders: Sequence[Folder],
    num_proc: int | None = None,
    on_progress: ProgressCallback | None = None,
) -> FolderReading:
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
    found: list[list[ImageMeasures]] = [[] for _ in jobs]
    with WorkerPool(min(num_proc, len(jobs)), domains) as workers:
        for job, result in workers.run(_measure_rows, jobs):
            found[job] = result
            done += len(result)
            if on_progress:
                on_progress("read", done, total)
    return _stack(tuple(folders), [measures for part in found for measures in part])


def _measure_rows(
    domains: Sequence[DomainSplit], number: int, start: int, stop: int
) -> list[ImageMeasures]:
    domain = domains[number]
    columns = ["image", "image_id", "pixel_sha256"]
    rows = domain.dataset.with_format("arrow").select_columns(columns)[start:stop].to_pylist()
    return [_measure_row(domain, row) for row in rows]


def _measure_row(domain: DomainSplit, row: dict[str, Any]) -> ImageMeasures:
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
