"""Build a trained model's reference set from its sources (see `hf_wbc.inference.gallery`).

It takes a few training cells of each class and source, evenly spaced, with thumbnails where the
source's license allows it, and the logits of every validation cell, which training never saw.
"""

import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.crop import crop_and_resize
from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, evenly_spaced, image_appearance
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.inference.gallery import VERSION, head_digest, reference_set_path
from hf_wbc.inference.predictor import Predictor
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = ["build_reference_set"]

PER_CLASS = 40
"""Training cells of each class and source."""
THUMBNAIL_PX = 96
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
    on_progress: Report = without_progress_bars,
) -> Path:
    """Write the reference set of a model from the datasets that it was trained on.

    Args:
        model: A run's model folder.
        refs: Prepared folders or Hub datasets.
        shown: Names of the domains whose thumbnails may be included; None includes all.
        per_class: Training cells of each class and source.
        on_progress: Called with the number of images done and the total.

    Returns:
        The file written.

    Raises:
        ValueError: If a dataset has no labels, or is not one of the model's recorded sources.
    """
    if not refs:
        raise ValueError("no datasets; name those that the model was trained on")
    if not model.is_dir():
        raise ValueError(f"{model} is not a folder; download the model first, with `hf download`")
    predictor = Predictor.load(str(model))
    selections = []
    for ref in refs:
        train, validation = load_splits(ref, ("train", "validation"))
        _require_source(predictor, train)
        selections.append(_Selection(ref, train, _evenly_spaced_by_class(train, per_class)))
        if len(_labeled(validation)):
            selections.append(_Selection(ref, validation, _labeled(validation)))
    total, done, tables = sum(len(each.rows) for each in selections), 0, []
    for selection in selections:

        def advance(num: int, _: int, before: int = done) -> None:
            on_progress(before + num, total)

        tables.append(_rows_table(predictor, selection, shown, advance))
        done += len(selection.rows)
    table = pa.concat_tables(tables)
    metadata: dict[str, Any] = {
        "version": VERSION,
        "head_sha256": head_digest(predictor.pretrained.classifier),
        "num_cells": len(table),
    }
    path = reference_set_path(model)
    with atomic_replace(path) as temporary:
        table = table.replace_schema_metadata({"hf_wbc": json.dumps(metadata)})
        pq.write_table(table, temporary, compression="zstd")
    return path


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
        crops = [crop_and_resize(each, domain.um_per_px, predictor.geometry) for each in images]
        features.append(predictor.features(np.stack(crops), preprocessing))
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
