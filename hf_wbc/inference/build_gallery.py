"""Build a trained model's reference set from its sources (see `hf_wbc.inference.gallery`).

It takes a few training cells of each class and source, evenly spaced, with thumbnails where the
source's license allows it, and the logits of every validation cell, which training never saw.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import crop_and_resize
from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.image_blocks import ImageFolder, list_images, num_blocks, read_blocks
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, evenly_spaced, image_appearance
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, report_after, without_progress_bars
from hf_wbc.inference.gallery import OUTLIERS, VERSION, head_digest, reference_set_path
from hf_wbc.inference.outliers import OutlierKind, fit_outlier_kind
from hf_wbc.inference.predictor import Predictor
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NUM_CLASSES
from hf_wbc.text import shorten_list

__all__ = ["build_reference_set"]

PER_CLASS = 40
"""Training cells of each class and source."""
THUMBNAIL_PX = 96
NUM_AGAINST = 2000
"""Cells of the training and the validation split that outliers are told from."""
CHUNK = 64
"""Images that are decoded at once."""


@dataclass(frozen=True)
class _Selection:
    """Rows of a domain's split."""

    ref: str
    domain: DomainSplit
    rows: NDArray[np.int64]


def build_reference_set(
    model: Path,
    refs: Sequence[str],
    *,
    shown: Collection[str] | None = None,
    per_class: int = PER_CLASS,
    outliers: Mapping[str, Path] = MappingProxyType({}),
    outlier_um_per_px: float | None = None,
    on_progress: Report = without_progress_bars,
) -> Path:
    """Write the reference set of a model from the datasets that it was trained on.

    Args:
        model: A run's model folder.
        refs: Prepared folders or Hub datasets.
        shown: Names of the domains whose thumbnails may be included; None includes all.
        per_class: Training cells of each class and source.
        outliers: Folders of images that show none of the eleven classes, by name (`platelet`), to
            be recognized as such.
        outlier_um_per_px: The scale of these images in um per pixel.
        on_progress: Called with the number of images done and the total.

    Returns:
        The file written.

    Raises:
        ValueError: If a dataset has no labels or was not trained on, or an outlier's images cannot
            be read.
    """
    if not refs:
        raise ValueError("no datasets; name those that the model was trained on")
    if not model.is_dir():
        raise ValueError(f"{model} is not a folder; download the model first, with `hf download`")
    predictor = Predictor.load(str(model))
    folders = {name: list_images(path, outlier_um_per_px) for name, path in outliers.items()}
    if folders and outlier_um_per_px is None:
        raise ValueError("the scale of the outliers is unknown; pass outlier_um_per_px")
    selections = _select(predictor, refs, per_class)
    total, done, tables = sum(len(each.rows) for each in selections), 0, []
    for selection in selections:
        shifted = report_after(on_progress, done, total)
        tables.append(_rows_table(predictor, selection, shown, shifted))
        done += len(selection.rows)
    metadata: dict[str, Any] = {
        "version": VERSION,
        "head_sha256": head_digest(predictor.pretrained.classifier),
        "num_cells": total,
        OUTLIERS: [kind.to_dict() for kind in _fit_outliers(predictor, folders, refs[0])],
    }
    table = pa.concat_tables(tables).replace_schema_metadata({"hf_wbc": json.dumps(metadata)})
    path = reference_set_path(model)
    with atomic_replace(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def _select(predictor: Predictor, refs: Sequence[str], per_class: int) -> list[_Selection]:
    """Choose the training and validation cells of every source."""
    selections = []
    for ref in refs:
        train, validation = load_splits(ref, ("train", "validation"))
        _require_source(predictor, train)
        selections.append(_Selection(ref, train, _evenly_spaced_by_class(train, per_class)))
        if len(_labeled(validation)):
            selections.append(_Selection(ref, validation, _labeled(validation)))
    return selections


def _fit_outliers(
    predictor: Predictor, folders: Mapping[str, ImageFolder], ref: str
) -> list[OutlierKind]:
    """Fit a detector of each kind of outlier against the cells of one source."""
    if not folders:
        return []
    preprocessing, _ = preprocessing_for(predictor.pretrained, ref)
    features = []
    for domain in load_splits(ref, ("train", "validation")):
        rows = _labeled(domain)
        rows = rows[evenly_spaced(len(rows), NUM_AGAINST)]
        parts = [
            predictor.features(_crops(predictor, domain, _decode(domain, chunk)), preprocessing)
            for chunk in np.array_split(rows, -(-len(rows) // CHUNK))
        ]
        features.append(np.concatenate(parts))
    return [
        fit_outlier_kind(name, _folder_features(predictor, folder, preprocessing), *features)
        for name, folder in folders.items()
    ]


def _folder_features(
    predictor: Predictor, folder: ImageFolder, preprocessing: ImagePreprocessing
) -> NDArray[np.float32]:
    """Return the features (N, d) of all images of a folder.

    Raises:
        ValueError: If an image cannot be read.
    """
    numbers = range(num_blocks(len(folder.names)))
    found = []
    for block in read_blocks(folder, predictor.geometry, 1, numbers):
        if block.faults:
            raise ValueError(f"{folder.path}: {shorten_list(block.faults)}; remove these images")
        found.append(predictor.features(block.pixels, preprocessing))
    return np.concatenate(found)


def _crops(
    predictor: Predictor, domain: DomainSplit, images: Sequence[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the model's crops (N, S, S, 3) of a split's images."""
    return np.stack(
        [crop_and_resize(each, domain.um_per_px, predictor.geometry) for each in images]
    )


def _require_source(predictor: Predictor, domain: DomainSplit) -> None:
    known = predictor.pretrained.exposed_to
    if known and domain.name not in known:
        raise ValueError(
            f"{domain.ref} is {domain.name}, which the model was not trained on; choose from "
            f"{', '.join(known)}"
        )
    if not len(_labeled(domain)):
        raise ValueError(f"{domain.ref} has no labels; name the model's sources")


def _labeled(domain: DomainSplit) -> NDArray[np.int64]:
    return np.flatnonzero(domain.labels >= 0)


def _evenly_spaced_by_class(domain: DomainSplit, per_class: int) -> NDArray[np.int64]:
    rows = []
    for label in range(NUM_CLASSES):
        candidates = np.flatnonzero(domain.labels == label)
        if len(candidates):
            rows.append(candidates[evenly_spaced(len(candidates), per_class)])
    return np.concatenate(rows)


def _rows_table(
    predictor: Predictor,
    selection: _Selection,
    shown: Collection[str] | None,
    on_progress: Report,
) -> pa.Table:
    """Compute the reference set's rows of one selection."""
    domain, is_train = selection.domain, selection.domain.split == "train"
    may_show = shown is None or domain.name in shown
    preprocessing, _ = preprocessing_for(predictor.pretrained, selection.ref)
    features, appearance, thumbnails = [], [], list[bytes | None]()
    for start in range(0, len(selection.rows), CHUNK):
        images = _decode(domain, selection.rows[start : start + CHUNK])
        features.append(predictor.features(_crops(predictor, domain, images), preprocessing))
        if is_train:
            small = [
                crop_and_resize(each, domain.um_per_px, APPEARANCE_GEOMETRY) for each in images
            ]
            appearance += [image_appearance(each).tolist() for each in small]
            thumbnails += [_thumbnail(each) if may_show else None for each in small]
        on_progress(min(start + CHUNK, len(selection.rows)), len(selection.rows))
    num, all_features = len(selection.rows), np.concatenate(features)
    empty: list[None] = [None] * num
    return pa.table(
        {
            "split": [domain.split] * num,
            "source": [domain.name] * num,
            "image_id": [domain.image_ids[row] for row in selection.rows.tolist()],
            "label": domain.labels[selection.rows],
            "features": _lists_or_nulls(all_features, is_train),
            "logits": _lists_or_nulls(predictor.logits(all_features), not is_train),
            "look": pa.array(appearance if is_train else empty, pa.list_(pa.float64())),
            "thumbnail": pa.array(thumbnails if is_train else empty, pa.binary()),
        }
    )


def _decode(domain: DomainSplit, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    facts = domain.dataset.with_format("arrow")[rows.tolist()].to_pylist()
    return [
        decode_row(each, domain.image_ids[row])
        for each, row in zip(facts, rows.tolist(), strict=True)
    ]


def _lists_or_nulls(values: NDArray[np.float32], keep: bool) -> pa.Array:
    """Return values (N, d) as N lists, or N nulls of the same type."""
    lists = fixed_rows(values)
    return lists if keep else pa.nulls(len(values), lists.type)


def _thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=88)
    return encoded.getvalue()
