"""The model card: derived from the record, with working snippets and no local paths."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from support import hub_cards as cards

from hf_wbc.config import TrainConfig
from hf_wbc.data.crop import crop_um
from hf_wbc.hub.provenance import strip_local_paths
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_model import model_publication, require_locations
from hf_wbc.preparation.source import ArchiveSpec


@pytest.fixture
def real() -> dict[str, Any]:
    """Return the record of a real run."""
    return cards.record()


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def test_card_metadata_has_every_score_of_the_record(real: dict[str, Any]) -> None:
    found = {
        (each.dataset_name, each.dataset_split, each.metric_type, each.metric_name.split(";")[0]): (
            each.metric_value
        )
        for each in ModelCard(cards.model(real)).data.eval_results
    }
    for domain, entry in real["results"].items():
        scores = entry["test"]
        over = f"over {scores['num_classes']} classes"
        assert found[domain, "test", "f1", f"macro-F1 {over}"] == scores["macro_f1"]
        assert found[domain, "test", "accuracy", "accuracy"] == scores["accuracy"]
        low, high = scores["intervals"]["macro_f1"]
        assert f"**{scores['macro_f1']:.3f} [{low:.3f}, {high:.3f}]**" in cards.model(real)
    assert {split for _, split, *_ in found} == {"test", "validation", "train+validation+test"}


@pytest.mark.parametrize("size", [(360, 363), (401, 250), (251, 251)])
def test_snippet_crops_as_training_does(real: dict[str, Any], size: tuple[int, int]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", cards.model(real), re.DOTALL)
    lines = [line for line in code.splitlines() if re.match(r"(side|left, top|cell) =", line)]
    assert len(lines) == 3
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    names: dict[str, Any] = {"image": Image.fromarray(pixels), "um_per_px": 0.1}
    exec("\n".join(lines), names)
    np.testing.assert_array_equal(np.asarray(names["cell"]), crop_um(pixels, 0.1))


def test_snippet_runs_and_returns_eleven_classes(
    runs: Mapping[str, Path],
    labs: Mapping[str, ArchiveSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = parse_destination(str(tmp_path / "wbc-vit"), "model")
    publish(model_publication(runs["vit"], to, labs), to)
    Image.new("RGBA", (80, 60), (200, 40, 90, 255)).save(tmp_path / "cell.png")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(
        r"```python\n(.*?)```", (tmp_path / "wbc-vit" / "README.md").read_text(), re.DOTALL
    )
    exec(compile(code, "README.md", "exec"), {})
    assert len(re.findall(r"'label': '\w+'", capsys.readouterr().out)) == 11


def test_selection_by_target_labels_is_marked_at_every_score(
    real: dict[str, Any],
) -> None:
    assert "Oracle" not in cards.model(real)
    real["selection"] |= {"rule": "oracle", "sees": "target labels"}
    text = cards.model(real)
    assert "> **Oracle.** These weights were selected with labels of tecom_jiangxi." in text
    assert "which saw **target labels**" in text
    names = [each.metric_name for each in ModelCard(text).data.eval_results]
    assert all("which used target labels: not a valid result" in name for name in names)


def test_backbone_exposed_to_target_is_marked(real: dict[str, Any]) -> None:
    real["model"] |= {"exposure": "13 public datasets", "exposed_to": ["tecom_jiangxi"]}
    text = cards.model(real)
    assert "> **Exposed.** The backbone was pre-trained on images of tecom_jiangxi" in text
    assert "Exposure unknown" not in text


def test_preprocessing_missing_from_pipeline_is_described(real: dict[str, Any]) -> None:
    real["images"]["note"] = "model/ was trained on images blurred: a pipeline does not"
    real["images"]["pipeline_scores"] = {"tecom_jiangxi": {"macro_f1": 0.1234, "num_classes": 4}}
    text = cards.model(real)
    assert "> **Additional preprocessing.** It was trained on images blurred" in text
    assert "- tecom_jiangxi: macro-F1 0.123 over 4 classes" in text


def test_unlabeled_target_has_no_scores(real: dict[str, Any]) -> None:
    real["results"]["tecom_jiangxi"] = {"role": "target", "test": None, "transductive": None}
    real["calibration"]["domains"]["tecom_jiangxi"] = {"role": "target", "test": None}
    text = body(cards.model(real))
    assert "tecom\\_jiangxi (target)" not in text and "acevedo\\_20 (source)" in text


def test_card_is_clean_markdown(real: dict[str, Any]) -> None:
    for text in (body(cards.model(real)), body(cards.model(real, license="cc-by-4.0"))):
        for trace in ("\n\n\n", "{{", "{%", "None", "nan", "[]"):
            assert trace not in text
        assert text.endswith("from the record of the run.\n")
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            lines = re.sub(r"\\\|", "", block).splitlines()
            assert len({line.count("|") for line in lines}) == 1, block


def test_local_base_model_is_not_named_as_repository(
    real: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "build/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    real["model"] |= {"name": "build/tiny", "revision": "fresh:0123456789abcdef"}
    text = cards.model(real)
    assert "build/tiny" not in text and "base_model" not in text
    assert "--model tiny" in text


@pytest.mark.parametrize("name", ["vit-tiny", "google/vit-base-patch16-224"])
def test_randomly_initialized_model_has_no_base_model(real: dict[str, Any], name: str) -> None:
    real["model"] |= {"name": name, "revision": "9f8e7d6c5b4a3f2e1d0c9f8e7d6c5b4a3f2e1d0c"}
    text = cards.model(real)
    hub_id = "WinKawaks/vit-tiny-patch16-224" if name == "vit-tiny" else name
    assert ModelCard(text).data.base_model == hub_id and "The base model is `" in text
    real["model"] |= {"revision": "fresh:0123456789abcdef"}
    text = cards.model(real)
    assert ModelCard(text).data.base_model is None and "base_model" not in text
    assert f"only its architecture is that of `{name}`, `fresh:0123456789ab`" in text
    assert "license is on its card" not in text and "--model" not in text


def test_sample_record_contains_no_local_paths(real: dict[str, Any]) -> None:
    assert "/" not in json.dumps([real["config"]["sources"], real["config"]["model"]])
    assert real["config"]["sources"] == ["acevedo_20"]


def test_target_labels_are_named_without_their_owners(real: dict[str, Any]) -> None:
    """The card counts them; paths and readers of the laboratory stay there."""
    labeled = json.loads(json.dumps(real))
    labeled["config"] = TrainConfig.from_record(real).to_dict()
    labeled["config"]["data"]["target_labels"] = "/home/ab/my_lab/my.labels.csv"
    labeled["target_labels"] = {
        "num": 50, "num_per_class": {"monocyte": 50}, "num_validation": 0, "strategy": "margin",
        "readers": ["ab@lab.example", "CD"], "digest": "0a1b2c",
    }  # fmt: skip
    public = strip_local_paths(labeled)
    assert public["config"]["data"]["target_labels"] == "my.labels.csv"
    assert public["target_labels"]["readers"] == ["reader 1", "reader 2"]
    card = cards.model(public)
    assert "Trained with target labels" in card and "50 training images" in card
    text = json.dumps(public) + card
    assert "lab.example" not in text and "/home/ab" not in text
    with pytest.raises(ValueError, match=r"--target-labels my\.labels\.csv"):
        require_locations(TrainConfig.from_record(public), "org/name")
