"""References show cells: they accompany a public model only if all cells may be published."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hf_wbc.hub.publication import parse_destination, read_bytes
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.inference.build_gallery import build_reference_set
from hf_wbc.inference.gallery import REFERENCE_FILE
from hf_wbc.preparation.source import ArchiveSpec

TO = parse_destination("lab/wbc-vit", "model")


@pytest.fixture
def run(runs: Mapping[str, Path], prepared: Mapping[str, Path], tmp_path: Path) -> Path:
    """Return a run with the reference of its source lab_a, including thumbnails; target lab_b."""
    folder = tmp_path / "run"
    shutil.copytree(runs["vit"], folder)
    build_reference_set(folder / "model", [str(prepared["lab_a"])], per_class=2)
    return folder


@pytest.mark.slow
@pytest.mark.ci
def test_restricted_thumbnails_are_in_no_public_file(
    run: Path, labs: Mapping[str, ArchiveSpec]
) -> None:
    shown = pq.read_table(run / REFERENCE_FILE)["thumbnail"].drop_null().to_pylist()
    assert shown
    closed = {**labs, "lab_a": replace(labs["lab_a"], redistributable=False)}
    for sources in (closed, {"lab_b": labs["lab_b"]}, {}):
        publication = model_publication(run, TO, sources, public=True)
        assert publication.public and REFERENCE_FILE not in publication.files
        for file in publication.files.values():
            assert not any(picture in read_bytes(file) for picture in shown)
        private = model_publication(run, TO, sources)
        assert not private.public and private.files[REFERENCE_FILE] == run / REFERENCE_FILE


@pytest.mark.slow
@pytest.mark.ci
def test_redistributable_reference_is_published_with_model(
    run: Path, labs: Mapping[str, ArchiveSpec]
) -> None:
    assert model_publication(run, TO, labs).files[REFERENCE_FILE] == run / REFERENCE_FILE
    closed = {**labs, "lab_b": replace(labs["lab_b"], redistributable=False)}
    assert not model_publication(run, TO, closed).public
    assert (
        REFERENCE_FILE in model_publication(run, TO, closed, public=True).files
    )  # lab_b is not part of it


def test_damaged_reference_is_reported(run: Path, labs: Mapping[str, ArchiveSpec]) -> None:
    (run / REFERENCE_FILE).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"reference\.parquet is damaged .*hf-wbc reference"):
        model_publication(run, TO, labs)
