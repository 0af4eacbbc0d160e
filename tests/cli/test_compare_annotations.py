"""`hf-wbc compare --annotations` adds examiner agreement to the scores."""

import csv
from pathlib import Path

import pytest

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run

pytestmark = pytest.mark.usefixtures("flat_maps")
TABLE = "BAS/BAS_1.tiff BAS BAS nan\nBAS/BAS_2.tiff BAS EOS nan\nEOS/EOS_1.tiff EOS EOS nan\n"


@pytest.fixture(scope="module")
def runs(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train one run for about a second."""
    root = tmp_path_factory.mktemp("runs")
    run(TrainConfig(sources=laboratories[:1], model=tiny_model, steps=2), root, root / "cache")
    return root


@pytest.mark.slow
@pytest.mark.ci
def test_agreement_appears_in_every_output_format(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations.dat").write_text(TABLE)
    words = ["--out", str(tmp_path / "out"), "--annotations", str(tmp_path / "annotations.dat")]
    assert main(["compare", str(runs), *words]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "noise_ceiling.csv").open())
    assert row["second_look"] == "first re-annotation" and row["num_images"] == "3"
    assert float(row["macro_f1"]) == pytest.approx(2 / 3)  # each class has an F1 of 2/3
    for name in ("comparison.md", "comparison.tex"):
        assert "Agreement between examiners" in (tmp_path / "out" / name).read_text()
    assert "Agreement between examiners" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci
def test_agreement_is_absent_without_annotations(runs: Path, tmp_path: Path) -> None:
    assert main(["compare", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert "examiners agree" not in (tmp_path / "out" / "comparison.md").read_text()
    assert not (tmp_path / "out" / "noise_ceiling.csv").exists()


def test_file_without_annotations_is_refused_before_writing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations.dat").write_text("a,b,c\n")
    words = ["--out", str(tmp_path / "out"), "--annotations", str(tmp_path / "annotations.dat")]
    assert main(["compare", str(runs), *words]) == 1
    assert "contains no annotations" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
