"""Make the reference of a trained model from its sources: see `hf_wbc.inference.gallery`.

A few training cells of each class and source, evenly spaced, with thumbnails unless a source's
images may not be passed on; every validation cell's logits, which no training has seen.
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
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, evenly_spaced, image_appearance
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.features import crop_geometry, fixed_rows
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.inference.gallery import VERSION, head_digest, reference_set_path
from hf_wbc.inference.predictor import Predictor
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NUM_CLASSES

PER_CLASS = 40
"""Training cells of each class and source."""
THUMBNAIL_PX = 96
_AT_ONCE = 64


@dataclass(frozen=True)
class _Rows:
    """Some rows of a domain's split, as a model saw them."""

    domain: DomainSplit
    rows: NDArray[np.int64]


def build_reference_set(
    model: Path,
    refs: Sequence[str],
    *,
    shown: Collection[str] | None = None,
    per_class: int = PER_CLASS,
    report: Report = without_progress_bars,
) -> Path:
    """Write the reference of a model's folder from the datasets that it was trained on; its path.

    `shown` are the domains whose thumbnails may be in it; None means all. ValueError when a dataset
    is not one of the model's sources, as far as it says, or has no labels.
    """
    if not refs:
        raise ValueError("no datasets; name those that the model was trained on")
    if not model.is_dir():
        raise ValueError(f"{model} is no folder; bring the model here first, with `hf download`")
    predictor = Predictor.load(str(model))
    wanted = []
    for ref in refs:
        train, validation = load_splits(ref, ("train", "validation"))
        _require_source(predictor, train)
        wanted.append((ref, _Rows(train, _chosen(train, per_class))))
        wanted.append((ref, _Rows(validation, _labelled(validation))))
    total, done, parts = sum(len(chosen.rows) for _, chosen in wanted), 0, []
    for ref, chosen in wanted:

        def show(num: int, _: int, before: int = done) -> None:
            report(before + num, total)

        parts.append(_part(predictor, ref, chosen, shown, show))
        done += len(chosen.rows)
    table = pa.concat_tables(parts)
    facts: dict[str, Any] = {
        "version": VERSION,
        "head_sha256": head_digest(predictor.pretrained.classifier),
        "num_cells": len(table),
    }
    path = reference_set_path(model)
    with atomic_replace(path) as temporary:
        table = table.replace_schema_metadata({"hf_wbc": json.dumps(facts)})
        pq.write_table(table, temporary, compression="zstd")
    return path


def _require_source(predictor: Predictor, domain: DomainSplit) -> None:
    known = predictor.pretrained.exposed_to
    if known and domain.name not in known:
        raise ValueError(
            f"{domain.ref} is {domain.name}, which the model has not seen; its sources are among "
            f"{', '.join(known)}"
        )
    if not len(_labelled(domain)):
        raise ValueError(f"{domain.ref} has no labels; name the model's sources")


def _labelled(domain: DomainSplit) -> NDArray[np.int64]:
    return np.flatnonzero(domain.labels >= 0)


def _chosen(domain: DomainSplit, per_class: int) -> NDArray[np.int64]:
    """Evenly spaced rows of each class."""
    rows = []
    for label in range(NUM_CLASSES):
        mine = np.flatnonzero(domain.labels == label)
        if len(mine):
            rows.append(mine[evenly_spaced(len(mine), per_class)])
    return np.concatenate(rows)


def _part(
    predictor: Predictor, ref: str, chosen: _Rows, shown: Collection[str] | None, report: Report
) -> pa.Table:
    """The rows as a table of the reference."""
    domain, is_train = chosen.domain, chosen.domain.split == "train"
    how, _ = preprocessing_for(predictor.pretrained, ref)
    geometry, dataset = crop_geometry(predictor.pretrained), domain.dataset.with_format("arrow")
    features, looks, thumbnails = [], [], list[bytes | None]()
    for start in range(0, len(chosen.rows), _AT_ONCE):
        rows = chosen.rows[start : start + _AT_ONCE]
        images = dataset[rows.tolist()]["image"].to_pylist()
        pixels = [
            decode_rgb(image["bytes"], domain.image_ids[row])
            for image, row in zip(images, rows.tolist(), strict=True)
        ]
        squares = np.stack([crop_and_resize(each, domain.um_per_px, geometry) for each in pixels])
        features.append(predictor.features(squares, how))
        if is_train:
            small = [
                crop_and_resize(each, domain.um_per_px, APPEARANCE_GEOMETRY) for each in pixels
            ]
            looks += [image_appearance(each).tolist() for each in small]
            may = shown is None or domain.name in shown
            thumbnails += [_thumbnail(each) if may else None for each in small]
        report(min(start + _AT_ONCE, len(chosen.rows)), len(chosen.rows))
    num, found = len(chosen.rows), np.concatenate(features)
    empty: list[None] = [None] * num
    return pa.table(
        {
            "split": [domain.split] * num,
            "source": [domain.name] * num,
            "image_id": [domain.image_ids[row] for row in chosen.rows.tolist()],
            "label": domain.labels[chosen.rows],
            "features": _rows(found, is_train),
            "logits": _rows(predictor.logits(found), not is_train),
            "look": pa.array(looks if is_train else empty, pa.list_(pa.float64())),
            "thumbnail": pa.array(thumbnails if is_train else empty, pa.binary()),
        }
    )


def _rows(values: NDArray[np.float32], kept: bool) -> pa.Array:
    """Values (N, d) as lists, or N nulls."""
    rows = fixed_rows(values)
    return rows if kept else pa.nulls(len(values), rows.type)


def _thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=88)
    return encoded.getvalue()
