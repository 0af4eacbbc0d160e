"""A toy archive never becomes a dataset under the real one's name."""

from pathlib import Path

import datasets
import pytest

import dataset_scripts
from hf_wbc.cli.main import main
from hf_wbc.preparation.toy_source import to_toy_source
from hf_wbc.toy.archives import LABORATORIES, Laboratory

SLOW = (pytest.mark.slow, pytest.mark.ci)


@pytest.mark.parametrize(
    "laboratory",
    [
        pytest.param(lab, id=lab.source, marks=SLOW if number else ())
        for number, lab in enumerate(LABORATORIES)
    ],
)
@pytest.mark.slow
@pytest.mark.ci
def test_toy_archive_is_prepared_as_a_toy(
    toy_archives: dict[str, Path], tmp_path: Path, laboratory: Laboratory
) -> None:
    out = tmp_path / "out"
    archive = str(toy_archives[laboratory.source])
    assert main(["prepare", laboratory.source, "--archive", archive, "--out", str(out)]) == 0
    rows = datasets.load_dataset(str(out), "cropped", split="train")
    assert set(rows["domain"]) == {f"toy_{laboratory.source}"}
    card = (out / "README.md").read_text()
    assert "These cells are drawings" in card
    assert dataset_scripts.load(laboratory.source).citation not in card


def test_toy_source_drops_metadata_of_the_real_archive() -> None:
    real = dataset_scripts.load("acevedo_20")
    toy = to_toy_source(real)
    assert (toy.um_per_px, toy.labels) == (real.um_per_px, real.labels)
    assert not (toy.citation or toy.faults or toy.notes or toy.declared)
    assert not (toy.archive_counts or toy.used_counts or toy.names_sha256)
