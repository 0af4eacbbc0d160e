"""Small prepared datasets for the Hub tests.

`prepare_laboratory` prepares one from class folders and a mapping file; `prepare_labs` prepares the
toy archives of the two sources in `LABS`.
"""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

import dataset_scripts
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive

CLASSES = {"Baso": "basophil", "Eos": "eosinophil", "Mono": "monocyte"}
NUM_PER_CLASS = 8
SIDE_PX = 40
UM_PER_PX = 25 / 32


def prepare_laboratory(
    root: Path, name: str, *, open_to_all: bool, suffix: str = ".png", seed: int = 0
) -> tuple[Path, Path]:
    """Prepare a laboratory; return its folder and its mapping file."""
    rng = np.random.default_rng(seed)
    archive = root / "archive"
    for folder in CLASSES:
        (archive / folder).mkdir(parents=True)
        for number in range(NUM_PER_CLASS):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX))
            image.save(archive / folder / f"{folder.lower()}_{number:04}{suffix}")
    mapping = root / f"{name}.json"
    facts = {"name": name, "um_per_px": UM_PER_PX, "classes": CLASSES}
    if open_to_all:
        facts |= {"redistributable": True, "licence": "cc-by-4.0"}
    mapping.write_text(json.dumps(facts))
    source = dataset_scripts.load("class_folders", mapping=mapping)
    return prepare(source, archive, root / name, num_proc=1), mapping


CODES = {"BA": "basophil", "EO": "eosinophil", "MO": "monocyte", "LY": "lymphocyte_typical"}
NUM_PER_CODE = 10


def _walk(archive: ReadableArchive) -> Iterator[Entry]:
    for name in archive.names:
        image_id = name.rpartition("/")[2]
        yield Entry(name, image_id, image_id.partition("_")[0])


def _lab(name: str, um_per_px: float) -> ArchiveSpec:
    return ArchiveSpec(
        name=name,
        repo=f"wbc-{name.replace('_', '-')}",
        title=f"Drawn cells of {name}",
        homepage="https://example.org",
        license="cc-by-4.0",
        redistributable=True,
        citation=f"@misc{{{name}, title = {{Drawn cells}}}}",
        description="Drawn cells.",
        um_per_px=um_per_px,
        image_id=r"[A-Z]+_[0-9]+\.png",
        labels=CODES,
        walk=_walk,
        archive_counts=dict.fromkeys(CODES, NUM_PER_CODE),
        used_counts=dict.fromkeys(CODES.values(), NUM_PER_CODE),
    )


LABS = {"lab_a": _lab("lab_a", 25 / 24), "lab_b": _lab("lab_b", 25 / 30)}


def prepare_labs(root: Path) -> Mapping[str, Path]:
    """Prepare both `LABS` under `root`; return their folders, in both configurations, by domain."""
    found = {}
    for number, (name, source) in enumerate(LABS.items()):
        rng = np.random.default_rng(number)
        for code in CODES:
            for index in range(NUM_PER_CODE):
                path = root / "archives" / name / code / f"{code}_{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_draw_image(rng, (41 + number, 36)))
        found[name] = root / name
        prepare(source, root / "archives" / name, found[name], num_proc=1)
    return found


def _draw_image(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
