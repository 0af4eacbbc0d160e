"""Embed the cells that could be labeled: a folder of images, or the splits of a dataset.

A pool holds the features of every cell, its appearance, and the labels that it already has. Blocks
of cells are saved as they are computed, so that the same call resumes after an interruption, and a
second call computes nothing.
"""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.dataset import load_splits
from hf_wbc.data.image_blocks import BLOCK, ImageFolder, num_blocks, read_blocks
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, image_appearance
from hf_wbc.data.labels_file import SKIP, Answer, require_known
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.features import crop_geometry
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.inference.image_source import (
    ImageSource,
    dataset_source,
    find_image_folder,
    folder_source,
)
from hf_wbc.inference.options import PredictOptions
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import atomic_replace, digest
from hf_wbc.taxonomy import NAMES, UNLABELED, class_id
from hf_wbc.text import shorten_list

__all__ = [
    "CellImages",
    "Floats",
    "Ids",
    "Pool",
    "answers_of",
    "appearance_of",
    "embed_for_choice",
    "folder_labels",
    "open_pool",
]

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
CACHE = Path("build/labeling")
"""Where embeddings are kept."""
WIDTH = 64
"""Principal components of the features that strategies see."""
MAX_FITTED = 1000
"""Cells from which principal components are computed."""


@dataclass(frozen=True, eq=False)
class CellImages:
    """The images of a pool's cells, which are read when they are needed."""

    read: Callable[[Sequence[str]], Mapping[str, NDArray[np.uint8]]]
    """Returns the 25 um squares (S, S, 3) of cells by name, as the model sees them."""
    preprocessing: ImagePreprocessing


@dataclass(frozen=True, eq=False)
class Pool:
    """N cells of one laboratory, embedded by one model."""

    name: str
    """Name of the folder or dataset."""
    image_ids: tuple[str, ...]
    """Names of the cells; paths within a folder."""
    features: NDArray[np.float32]
    """Penultimate features (N, d)."""
    logits: NDArray[np.float32]
    """The model's logits (N, 11)."""
    labels: Ids
    """Class ids (N,) that the folder or dataset states; -1 where unknown."""
    appearance: Floats
    """Color statistics and sharpness (N, 7) of each cell, see `image_appearance`."""
    groups: NDArray[np.str_] | None = None
    """Patient, slide or session of each cell (N,), if all are known."""
    held_out: frozenset[str] = frozenset()
    """Ids of the dataset's test cells, which must never be labeled here."""
    faults: tuple[str, ...] = ()
    """Images that were left out, each with the reason."""
    notes: tuple[str, ...] = ()
    """What a summary should say about images that were left out, junk and links, a line each."""
    facts: Mapping[str, Any] | None = None
    """What embedded which images; plain JSON values."""
    images: CellImages | None = None
    """The cells' images; None where only features are known."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image_ids: Sequence[str]) -> Ids:
        """Return the rows of cells by name.

        Raises:
            ValueError: If a cell is not in the pool, or is a test cell.
        """
        place = {image_id: row for row, image_id in enumerate(self.image_ids)}
        require_known(image_ids, place, self.held_out, self.name)
        return np.array([place[image_id] for image_id in image_ids], np.int64)

    def take(self, rows: Ids) -> "Pool":
        """Return the pool of some of the cells."""
        return replace(
            self,
            image_ids=tuple(self.image_ids[row] for row in rows),
            features=self.features[rows],
            logits=self.logits[rows],
            labels=self.labels[rows],
            appearance=self.appearance[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


def open_pool(
    model: str,
    ref: str,
    options: PredictOptions,
    cache: Path = CACHE,
    *,
    classes: Mapping[str, str | None] | None = None,
    reserve_test: bool = True,
    on_progress: Report = without_progress_bars,
) -> tuple[PretrainedModel, Pool]:
    """Embed the cells of a folder, or of the training and validation splits of a dataset.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        ref: A folder of images, a prepared folder, or a Hub dataset.
        options: Scale, splits, runtime and so on.
        cache: Folder of the embeddings.
        classes: Class of each class folder, for folders that are sorted by class; names of the
            eleven classes are known.
        reserve_test: Keep the test split of a dataset out of the pool.
        on_progress: Called with the number of images done and the total.

    Returns:
        The model and the pool.

    Raises:
        ValueError: As `hf_wbc.inference.batch_predict.predict_images`.
    """
    if reserve_test:
        splits = tuple(split for split in options.splits if split != "test")
        options = replace(options, splits=splits)
    folder = find_image_folder(ref, options)
    pretrained = load_trained(model)
    pretrained.classifier.eval()
    choice = choose_runtime(
        pretrained.classifier, pretrained.preprocessing, options.runtime, options.precision,
        pretrained.revision,
    )  # fmt: skip
    if folder is not None:
        source = folder_source(pretrained, folder, options.num_proc)
        name = folder.path.resolve().name
    else:
        source = dataset_source(
            pretrained, ref, options.splits, options.cell_fills_frame, options.num_proc
        )
        name = source.metadata["data"]["name"]
    found = _embed(pretrained, source, choice, cache / name, options.skip_bad, on_progress)
    pool = Pool(
        name=name,
        image_ids=found.image_ids,
        features=found.features,
        logits=apply_head(pretrained.classifier, found.features),
        labels=_known_labels(source, found.image_ids, classes or {}),
        appearance=found.appearance,
        faults=found.faults,
        notes=(*source.notes, *_left_out(found.faults)),
        facts={"model": pretrained.revision, "runtime": choice.to_dict(), **source.metadata},
        images=_images(pretrained, folder, source, found.image_ids),
    )
    return pretrained, pool if folder is not None else _with_dataset_facts(pool, ref, options)


def answers_of(pool: Pool, image_ids: Sequence[str]) -> list[Answer]:
    """Return the pool's own labels as answers, `skip` where it has none."""
    rows = pool.rows(image_ids)
    return [
        Answer(image_id, SKIP if pool.labels[row] == UNLABELED else NAMES[pool.labels[row]])
        for image_id, row in zip(image_ids, rows, strict=True)
    ]


def folder_labels(image_ids: Sequence[str], classes: Mapping[str, str | None]) -> Ids:
    """Return class ids (N,) of images in folders that are named after classes; -1 elsewhere.

    Args:
        image_ids: Paths within a folder.
        classes: Class of each folder; the names of the eleven classes need not be given.
    """
    known = {name: NAMES.index(name) for name in NAMES}
    for folder, name in classes.items():
        known[folder] = UNLABELED if name is None else class_id(name)
    found = []
    for image_id in image_ids:
        folders = [part for part in image_id.split("/")[:-1] if part in known]
        found.append(known[folders[-1]] if folders else UNLABELED)
    return np.array(found, np.int64)


def embed_for_choice(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return standardized features (N, d) in at most 64 principal components, of mean length 1."""
    rows = np.unique(np.linspace(0, len(features) - 1, MAX_FITTED).astype(np.int64))
    some = features[rows].astype(np.float64)
    mean, std = some.mean(0), some.std(0) + 1e-3
    _, singular, axes = np.linalg.svd((some - mean) / std, full_matrices=False)
    width = min(WIDTH, max(1, int((singular > 1e-8 * singular[0]).sum())))
    projection = (axes[:width] / std).T
    shift = (mean @ projection).astype(np.float32)
    embedded = features @ projection.astype(np.float32) - shift
    length = float(np.sqrt((embedded.astype(np.float64) ** 2).sum(1).mean()))
    found: NDArray[np.float32] = embedded / np.float32(max(length, 1e-12))
    return found


@dataclass(frozen=True, eq=False)
class _Embedded:
    image_ids: tuple[str, ...]
    features: NDArray[np.float32]
    appearance: Floats
    faults: tuple[str, ...]


def _embed(
    model: PretrainedModel,
    source: ImageSource,
    choice: RuntimeChoice,
    cache: Path,
    skip_bad: bool,
    on_progress: Report,
) -> _Embedded:
    """Embed all images of a source, block by block, keeping finished blocks.

    Blocks with faults are read again: an extra may have been installed, or a disk be back.
    """
    identity = {
        "listing": source.fingerprint, "revision": model.revision, "block": BLOCK,
        "runtime": [choice.runtime.name, choice.runtime.version, choice.runtime.precision],
        **source.metadata,
    }  # fmt: skip
    folder = cache / digest(with_arithmetic(identity))
    folder.mkdir(parents=True, exist_ok=True)
    total = num_blocks(source.num_images)
    todo = [number for number in range(total) if not _is_whole(_path(folder, number))]
    on_progress(min((total - len(todo)) * BLOCK, source.num_images), source.num_images)
    device = model.classifier.head.weight.device
    for number, block in zip(todo, source.read(todo), strict=True):
        features = np.empty((0, model.classifier.num_features), np.float32)
        if block.names:
            features = run_runtime(choice.runtime, block.pixels, source.preprocessing, device)
        with atomic_replace(_path(folder, number)) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                image_ids=np.array(block.names, np.str_),
                features=features,
                appearance=appearance_of(block.pixels),
                faults=np.array(block.faults, np.str_),
            )
        on_progress(min((number + 1) * BLOCK, source.num_images), source.num_images)
    return _collect(folder, total, skip_bad)


def _is_whole(path: Path) -> bool:
    """Return whether a block was written completely and has no faults."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            return not {name: part[name] for name in part.files}["faults"].size
    except (EOFError, FileNotFoundError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return False


def _collect(folder: Path, total: int, skip_bad: bool) -> _Embedded:
    ids: list[str] = []
    faults: list[str] = []
    features, appearance = [], []
    for number in range(total):
        with np.load(_path(folder, number), allow_pickle=False) as part:
            ids += part["image_ids"].tolist()
            faults += part["faults"].tolist()
            features.append(part["features"])
            appearance.append(part["appearance"])
    if faults and (not skip_bad or not ids):
        raise ValueError(
            f"{len(faults)} of {len(faults) + len(ids)} images cannot be used: "
            f"{shorten_list(faults, 10)}; fix them, or leave them out with --skip-bad"
        )
    return _Embedded(
        tuple(ids), np.concatenate(features), np.concatenate(appearance), tuple(faults)
    )


def _images(
    model: PretrainedModel,
    folder: ImageFolder | None,
    source: ImageSource,
    image_ids: Sequence[str],
) -> CellImages:
    """Return the images of the cells of a folder, or of a dataset if there is no folder."""
    geometry = crop_geometry(model)
    place = {image_id: row for row, image_id in enumerate(image_ids)}

    def read(wanted: Sequence[str]) -> Mapping[str, NDArray[np.uint8]]:
        if folder is not None:
            part = replace(folder, names=tuple(wanted))
            blocks = read_blocks(part, geometry, 1, range(num_blocks(len(wanted))))
        else:
            blocks = source.read(sorted({place[image_id] // BLOCK for image_id in wanted}))
        found = {
            name: square
            for block in blocks
            for name, square in zip(block.names, block.pixels, strict=True)
        }
        return {image_id: found[image_id] for image_id in wanted}

    return CellImages(read, source.preprocessing)


def _left_out(faults: Sequence[str]) -> list[str]:
    if not faults:
        return []
    return [f"left out: {len(faults)} images that cannot be used: {shorten_list(faults, 10)}"]


def appearance_of(squares: NDArray[np.uint8]) -> Floats:
    """Return the appearance (B, 7) of squares (B, S, S, 3), at the size of all measurements."""
    side = APPEARANCE_GEOMETRY.size
    found = np.empty((len(squares), 7))
    for row, square in enumerate(squares):
        if square.shape[0] != side:
            resized = Image.fromarray(square).resize((side, side), Image.Resampling.BOX)
            square = np.asarray(resized)
        found[row] = image_appearance(square)
    return found


def _known_labels(
    source: ImageSource, image_ids: Sequence[str], classes: Mapping[str, str | None]
) -> Ids:
    if source.labels is not None:
        return source.labels
    return folder_labels(image_ids, classes)


def _with_dataset_facts(pool: Pool, ref: str, options: PredictOptions) -> Pool:
    """Add the groups of a dataset, and its test cells if they are kept out of the pool."""
    splits = load_splits(ref)
    chosen = [split for split in splits if split.split in options.splits and len(split)]
    known = [split.groups for split in chosen if split.groups is not None]
    groups = np.concatenate(known).astype(np.str_) if len(known) == len(chosen) else None
    test = next(split for split in splits if split.split == "test")
    held_out = frozenset() if "test" in options.splits else frozenset(test.image_ids)
    return replace(pool, groups=groups, held_out=held_out - frozenset(pool.image_ids))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.npz"
