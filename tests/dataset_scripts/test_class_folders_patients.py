"""Trees of patients and visits are built with the patient as the group."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from datasets import load_dataset

from dataset_scripts.class_folders import configure
from hf_wbc.preparation.build import prepare
from hf_wbc.taxonomy import NAMES


@pytest.mark.slow
@pytest.mark.ci
def test_splits_keep_the_visits_of_a_patient_together(
    draw_images: Callable[[Path, Iterable[str]], Path], tmp_path: Path
) -> None:
    files = [
        f"P{patient:02d}/V{visit}/{folder}/{number}.jpg"
        for patient in range(10)
        for visit in (1, 2)
        for folder in ("Blast", "Mono")
        for number in range(2)
    ]
    archive = draw_images(tmp_path / "cohort", files)
    mapping = {
        "name": "cohort", "um_per_px": None, "layout": "{patient}/{visit}/{class}",
        "classes": {"Blast": "myeloblast", "Mono": "monocyte"}, "image_id": "path",
        "name_pattern": "P?V?[0-9]+",
    }  # fmt: skip
    (tmp_path / "cohort.json").write_text(json.dumps(mapping))
    source = configure(tmp_path / "cohort.json")
    built = prepare(source, archive, tmp_path / "built", num_proc=1)
    splits = load_dataset(str(built), "cropped")
    patients = {name: set(split["group"]) for name, split in splits.items()}
    assert set.union(*patients.values()) == {f"P{patient:02d}" for patient in range(10)}
    assert sum(map(len, patients.values())) == 10 and all(patients.values())
    rows = [row for split in splits.values() for row in split.remove_columns("image")]
    assert len(rows) == len(files)
    assert {row["source_label"]: NAMES[row["label"]] for row in rows} == mapping["classes"]
