"""The data exposure of weights is carried from one training to the next."""

import json
from pathlib import Path

import pytest
import torch

from hf_wbc.models import Exposure, load_classifier, load_trained, save_classifier
from hf_wbc.models.backbones import BACKBONES


def test_exposure_accumulates_over_trainings() -> None:
    first = Exposure("web images", ("matek_19",)).after(["acevedo_20"], ["mll_23"])
    second = first.after(["mll_23"], [])
    assert second.exposed_to == ("matek_19", "acevedo_20", "mll_23")
    assert second.said == (
        "images of mll_23 with labels; before that: images of acevedo_20 with labels and images "
        "of mll_23 without labels; before that: web images"
    )


def test_exposure_round_trips_through_saved_model(tiny_model: str, tmp_path: Path) -> None:
    loaded = load_classifier(tiny_model)
    assert (loaded.exposure, loaded.exposed_to) == ("unknown", ())
    seen = Exposure(loaded.exposure, loaded.exposed_to).after(["home"], ["away"])
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "model", exposure=seen)
    for again in (load_trained(str(tmp_path / "model")), load_classifier(str(tmp_path / "model"))):
        assert again.exposed_to == ("home", "away")
        assert again.exposure == seen.said


def test_save_without_exposure_leaves_no_note(tiny_model: str, tmp_path: Path) -> None:
    loaded = load_classifier(tiny_model)
    for name, seen in (("a", Exposure("seen", ("home",))), ("b", None)):
        save_classifier(loaded.classifier, loaded.processor, tmp_path / name, exposure=seen)
    assert "hf_wbc_exposure" in json.loads((tmp_path / "a" / "config.json").read_text())
    assert "hf_wbc_exposure" not in json.loads((tmp_path / "b" / "config.json").read_text())


def test_random_weights_have_no_exposure(tiny_model: str, tmp_path: Path) -> None:
    loaded = load_classifier(tiny_model)
    for name, seen in (("a", Exposure("seen", ("home",))), ("b", None)):
        save_classifier(loaded.classifier, loaded.processor, tmp_path / name, exposure=seen)
    fresh = [load_classifier(str(tmp_path / name), fresh=True) for name in "ab"]
    assert [one.exposed_to for one in fresh] == [(), ()]
    assert fresh[0].revision == fresh[1].revision
    with torch.no_grad():
        assert torch.equal(fresh[0].classifier.head.weight, fresh[1].classifier.head.weight)


def test_exposure_note_of_another_version_is_refused(tiny_model: str, tmp_path: Path) -> None:
    loaded, folder = load_classifier(tiny_model), tmp_path / "model"
    save_classifier(loaded.classifier, loaded.processor, folder, exposure=Exposure("seen"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hf_wbc_exposure": {"seen": 1}}))
    with pytest.raises(ValueError, match=r"hf_wbc_exposure .* use the hf_wbc that wrote the model"):
        load_trained(str(folder))


def test_only_blood_cell_models_are_marked_exposed() -> None:
    assert [ready.name for ready in BACKBONES if ready.exposed_to] == ["dinobloom-base"]
    for ready in BACKBONES:
        assert ready.exposure.startswith("EXPOSED") == bool(ready.exposed_to)
