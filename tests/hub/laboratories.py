"""Two small laboratories, prepared as their owners would: from class folders and a mapping file."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import dataset_scripts
from hf_wbc.preparation.build import prepare

CLASSES = {"Baso": "basophil", "Eos": "eosinophil", "Mono": "monocyte"}
NUM_PER_CLASS = 8
SIDE_PX = 40
UM_PER_PX = 25 / 32


def prepare_laboratory(
    root: Path, name: str, *, open_to_all: bool, suffix: str = ".png", seed: int = 0
) -> tuple[Path, Path]:
    """The prepared folder of a laboratory, and its mapping file."""
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
