"""Shards: planned from seed and id only, written atomically, and rewritten if incomplete."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_wbc.data.archive import Archive, open_archive
from hf_wbc.data.image_io import decode_rgb, pixel_sha256
from hf_wbc.data.schema import row_features
from hf_wbc.preparation.rows import Row
from hf_wbc.preparation.shards import (
    ROWS_PER_SHARD,
    Shard,
    ShardFormat,
    find_written,
    plan_shards,
    write_shard,
)
from hf_wbc.preparation.source import Entry
from hf_wbc.preparation.work_folder import WorkFolder

UM_PER_PX = 25 / 24


@pytest.fixture
def archive(write: Callable[..., Path], png: Callable[..., bytes]) -> Archive:
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"  # Artist
    jpeg = png(1, kind="JPEG", quality=90, comment=b"Jane Doe", exif=exif)
    path = write({"BA_0.png": png(0), "BA_1.jpg": jpeg, "BA_2.png": png(2, exif=exif)})
    return open_archive(path, path.parent)


@pytest.fixture
def shard(archive: Archive) -> Shard:
    rows = []
    for name in archive.names:
        digest = pixel_sha256(decode_rgb(archive.read(name), name))
        rows.append(Row(Entry(name, name, "BA", "p1"), 0, digest, False))
    return Shard("train", 0, 1, tuple(rows))


@pytest.fixture
def form(tmp_path: Path) -> ShardFormat:
    work = WorkFolder(tmp_path / "out")
    work.root.mkdir()
    folder = work.build({})
    return ShardFormat(str(folder), "lab_a", UM_PER_PX, row_features().arrow_schema)


def contents(folder: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*.*")}


def rows(form: ShardFormat, config: str) -> list[dict[str, Any]]:
    path = Path(form.folder) / "out" / config / "train-00000-of-00001.parquet"
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_plan_is_independent_of_row_order() -> None:
    num = ROWS_PER_SHARD + 30
    made = [Row(Entry(f"{i}", f"{i}", "BA"), i % 3, "", False) for i in range(num)]
    splits = ["test" if i % 100 == 0 else "train" for i in range(num)]
    plan = plan_shards(made, splits, seed=0)
    assert [(s.name, len(s.rows)) for s in plan] == [
        ("train-00000-of-00002", 512),
        ("train-00001-of-00002", num - 512 - 6),
        ("test-00000-of-00001", 6),
    ]
    assert plan_shards(made[::-1], splits[::-1], seed=0) == plan
    assert plan_shards(made, splits, seed=1) != plan
    labels = [row.label for row in plan[0].rows[:60]]
    assert all(10 < labels.count(label) < 30 for label in range(3))  # classes are mixed


def test_row_contains_the_frame_and_its_crop(
    archive: Archive, form: ShardFormat, shard: Shard
) -> None:
    write_shard(archive, form, shard)
    for name, whole, crop in zip(
        archive.names, rows(form, "original"), rows(form, "cropped"), strict=True
    ):
        frame = decode_rgb(archive.read(name), name)
        assert np.array_equal(decode_rgb(whole["image"]["bytes"], name), frame)
        assert np.array_equal(decode_rgb(crop["image"]["bytes"], name), frame[4:28, 8:32])
        assert crop["pixel_sha256"] == pixel_sha256(np.ascontiguousarray(frame[4:28, 8:32]))
        facts = {"label": 0, "source_label": "BA", "domain": "lab_a", "image_id": name}
        facts |= {"group": "p1", "um_per_px": UM_PER_PX, "pixel_sha256": pixel_sha256(frame)}
        assert {key: whole[key] for key in facts} == facts
        assert whole["image"]["path"] == name and crop["image"]["path"] == f"{name[:4]}.png"
        assert b"Jane" not in whole["image"]["bytes"] and b"Exif" not in whole["image"]["bytes"]


def test_crop_is_the_frame_without_scale(archive: Archive, form: ShardFormat, shard: Shard) -> None:
    write_shard(archive, replace(form, um_per_px=None), shard)
    assert rows(form, "original") == rows(form, "cropped")
    assert rows(form, "cropped")[0]["um_per_px"] is None


def test_only_complete_shard_is_found(archive: Archive, form: ShardFormat, shard: Shard) -> None:
    folder = Path(form.folder)
    assert find_written(folder, shard) is None
    written = write_shard(archive, form, shard)
    assert find_written(folder, shard) == written
    assert not any((folder / "temporary").iterdir())
    whole = contents(form.folder)
    path = folder / "out" / "original" / f"{shard.name}.parquet"
    os.truncate(path, 100)
    assert find_written(folder, shard) is None
    path.unlink()
    assert find_written(folder, shard) is None
    assert write_shard(archive, form, shard) == written
    assert contents(form.folder) == whole


def test_image_changed_since_scan_is_an_error_and_leaves_nothing(
    archive: Archive, form: ShardFormat, shard: Shard
) -> None:
    rows = (*shard.rows[:2], replace(shard.rows[2], pixel_sha256="f" * 64))
    with pytest.raises(ValueError, match=r"BA_2\.png changed while it was being read"):
        write_shard(archive, form, replace(shard, rows=rows))
    assert contents(form.folder) == {}
