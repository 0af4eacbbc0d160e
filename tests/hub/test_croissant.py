"""A dataset in a folder has Croissant metadata, which its own library reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.data.schema import row_features
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_dataset import dataset_publication
from hf_wbc.taxonomy import NAMES


@pytest.fixture
def folder(prepared: Any, labs: Any, tmp_path: Path) -> Path:
    to = parse_destination(str(tmp_path / "lab_a"), "dataset")
    publish(dataset_publication(prepared["lab_a"], labs["lab_a"], to), to)
    return tmp_path / "lab_a"


def test_metadata_describes_every_column_of_both_configurations(folder: Path) -> None:
    values = json.loads((folder / "croissant.json").read_text())
    sets = {each["@id"]: each for each in values["recordSet"]}
    assert set(sets) == {"classes", "cropped", "original"}
    for config in ("cropped", "original"):
        columns = [each["source"]["extract"]["column"] for each in sets[config]["field"]]
        assert sorted(columns) == sorted(row_features())
    assert [each["classes/name"] for each in sets["classes"]["data"]] == list(NAMES)
    for each in values["distribution"]:
        assert [*folder.glob(each["includes"])]


def test_on_the_hub_the_hub_makes_them(prepared: Any, labs: Any) -> None:
    to = parse_destination("lab/cells", "dataset")
    assert "croissant.json" not in dataset_publication(prepared["lab_a"], labs["lab_a"], to).files


def test_mlcroissant_reads_every_row(folder: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    dataset = croissant.Dataset(jsonld=str(folder / "croissant.json"))
    rows = list(dataset.records("cropped"))
    assert len(rows) == 40 and {row["cropped/domain"] for row in rows} == {b"lab_a"}
    assert rows[0]["cropped/image"].mode == "RGB"
