"""Declarations in the mapping reach the prepared folder, where the audit reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dataset_scripts
from hf_wbc.audit.measure import open_folders
from hf_wbc.preparation.build import prepare

NOTE = "Basophils were taken on another day."


def _mapping(path: Path, **values: object) -> Path:
    classes = {"BA": "basophil", "MO": "monocyte"}
    path.write_text(
        json.dumps({"name": "own", "um_per_px": 1.0, "classes": classes} | values), encoding="utf-8"
    )
    return path


def test_declaration_is_copied_from_mapping_to_prepared_folder(tmp_path):
    rng = np.random.default_rng(0)
    for code in ("BA", "MO"):
        (tmp_path / "archive" / code).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (26, 26, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "archive" / code / f"{code}_{number}.png")
    mapping = _mapping(tmp_path / "mapping.json", declared={"background_class": NOTE})
    source = dataset_scripts.load("class_folders", mapping=mapping)
    out = prepare(source, tmp_path / "archive", tmp_path / "out", num_proc=1)
    (folder,) = open_folders([str(out)])
    assert folder.config == "original" and len(folder) == 8
    assert folder.declared == {"background_class": NOTE}
    assert NOTE in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"backgrounds": NOTE}, r"mapping\.json: unknown finding 'backgrounds'"),
        ({"background_class": 3}, "declaration of background_class is empty"),
        ([NOTE], "declared is .*; write"),
    ],
)
def test_invalid_declaration_in_mapping_is_refused(tmp_path, declared, message):
    mapping = _mapping(tmp_path / "mapping.json", declared=declared)
    with pytest.raises(ValueError, match=message):
        dataset_scripts.load("class_folders", mapping=mapping)
