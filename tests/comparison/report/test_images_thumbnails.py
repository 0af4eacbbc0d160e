"""Images appear only if available and identical to those on which the run was scored."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.report.images import SIDE_PX, Thumbnails
from hf_wbc.data.dataset import load_split


def run_on(ref: str, fingerprint: str, place: Path, revision: str | None = None) -> Run:
    facts = {"name": "home", "ref": ref, "revision": revision, "test": fingerprint}
    return Run(place, {"sources": [facts], "target": [], "held_out": []})


@pytest.fixture(scope="module")
def home(make_domain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_domain(tmp_path_factory.mktemp("place") / "data" / "home", name="home")


def test_images_are_found_from_run_folder_upwards(home: Path) -> None:
    domain = load_split(str(home), "test")
    run = run_on("data/home", domain.fingerprint, home.parents[1] / "runs" / "abc")
    found, missing = Thumbnails().of(run, "home", "test", domain.image_ids[:2])
    assert missing == ""
    assert list(found) == domain.image_ids[:2]
    data = base64.b64decode(found[domain.image_ids[0]].partition(",")[2])
    image = Image.open(io.BytesIO(data))
    assert max(image.size) <= SIDE_PX
    assert not image.getexif() and b"home_" not in data


def test_unavailable_images_are_reported(tmp_path: Path) -> None:
    run = run_on("data/nowhere", "0" * 64, tmp_path)
    found, missing = Thumbnails().of(run, "home", "test", ["a.png"])
    assert found == {}
    assert missing == "data/nowhere is not available here, so its images cannot be shown"


def test_changed_images_are_not_shown(home: Path) -> None:
    run = run_on("data/home", "0" * 64, home.parents[1] / "runs" / "abc")
    found, missing = Thumbnails().of(run, "home", "test", ["a.png"])
    assert found == {} and "other images" in missing


def test_hub_dataset_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    run = run_on("org/home@main", "0" * 64, tmp_path, revision="0" * 40)
    found, missing = Thumbnails().of(run, "home", "test", ["a.png"])
    assert found == {} and "not available here" in missing
