"""`hf-wbc patients` on a dataset whose groups are patients."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.cli.main import main


@pytest.fixture
def lab(make_domain: Any, tmp_path: Path) -> Path:
    """Write a domain with four patients, two of whom have basophils only."""
    folder: Path = make_domain(
        tmp_path / "lab", num_per_class=4, classes=("basophil", "monocyte"), seed=3
    )
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path)
        groups = [
            f"p{2 * (i % 2) + (label > 0)}" for i, label in enumerate(table["label"].to_pylist())
        ]
        place = table.column_names.index("group")
        column = pa.array(groups, table.schema.field("group").type)
        pq.write_table(table.set_column(place, table.schema.field("group"), column), path)
    return folder


@pytest.mark.slow
@pytest.mark.ci
def test_patients_are_predicted_and_tabulated(
    lab: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "patients.csv"
    labels.write_text("group,label\np0,basophilic\np2,basophilic\np1,other\np3,other\n")
    out = tmp_path / "out"
    words = ["patients", tiny_model, str(lab), "--labels", str(labels), "--out", str(out)]
    assert main([*words, "--cache", str(tmp_path / "cache"), "--runtime", "torch"]) == 0
    rows = list(csv.DictReader((out / "patients.csv").open()))
    assert [row["group"] for row in rows] == ["p0", "p1", "p2", "p3"]
    assert rows[0]["basophil"] == "1.0" and int(rows[0]["num_cells"]) == 6
    record = json.loads((out / "record.json").read_text())
    assert set(record["heads"]) == {"mean", "attention"} and record["num_patients"] == 4
    assert "AUROC" in capsys.readouterr().out


def test_patient_without_cells_is_reported_before_any_work(
    lab: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "patients.csv"
    labels.write_text("group,label\np0,a\np1,b\nnobody,b\n")
    words = ["patients", tiny_model, str(lab), "--labels", str(labels)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "nobody" in capsys.readouterr().err and not (tmp_path / "out").exists()
