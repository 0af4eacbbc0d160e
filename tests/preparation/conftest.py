"""Tiny archives of synthetic cells, and the source that describes them."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_wbc.preparation.source import ArchiveSpec, Entry, KnownFault, ReadableArchive

CODES = {"BA": "basophil", "EO": "eosinophil", "MY": "myelocyte", "PLT": None}
NUM = {"BA": 10, "EO": 12, "MY": 3, "PLT": 2}
FRAME_PX = (40, 32)
"""Width and height in pixels; the central 25 um span 24 px."""


def _walk(archive: ReadableArchive) -> Iterator[Entry]:
    for name in archive.names:
        image_id = name.rpartition("/")[2]
        if image_id.endswith((".png", ".jpg")):
            yield Entry(name, image_id, image_id.partition("_")[0])


LAB = ArchiveSpec(
    name="lab_a",
    repo="wbc-lab-a",
    title="Lab A: drawn cells",
    homepage="https://example.org/lab_a",
    license="cc-by-4.0",
    redistributable=True,
    citation="@misc{lab_a}",
    description="Drawn cells.",
    um_per_px=25 / 24,
    image_id=r"[A-Z]+_[0-9]+\.(png|jpg)",
    labels=CODES,
    walk=_walk,
    archive_counts=NUM,
    used_counts={cell: NUM[code] for code, cell in CODES.items() if cell},
    notes=("All of it is drawn.",),
)


@pytest.fixture
def lab() -> Callable[..., ArchiveSpec]:
    """Build the source of the synthetic cells, with changed metadata if given."""

    def make(**facts: Any) -> ArchiveSpec:
        return replace(LAB, **facts)

    return make


@pytest.fixture
def two_labels() -> Callable[..., KnownFault]:
    """Declare a pair of identical images with different labels."""
    return lambda *ids: KnownFault(ids, "two_labels", "train_only", "One image, two labels.")


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """Encode a synthetic cell as PNG; `seed` varies the cell."""

    def make(seed: int, size: tuple[int, int] = FRAME_PX, kind: str = "PNG", **save: Any) -> bytes:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, kind, **save)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def files(png: Callable[..., bytes]) -> Mapping[str, bytes]:
    """Return the whole archive of the laboratory: 27 images by path."""
    names = [f"{code}/{code}_{number:02}.png" for code in NUM for number in range(NUM[code])]
    return {name: png(seed) for seed, name in enumerate(names)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write files into a folder."""

    def make(contents: Mapping[str, bytes], name: str = "archive") -> Path:
        for member, data in contents.items():
            (tmp_path / name / member).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / member).write_bytes(data)
        return tmp_path / name

    return make
