"""The model card: every word from the record, its snippets run, nothing of this machine in it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

import dataset_scripts
from hf_wbc.data.crop import crop_um
from hf_wbc.data.source import Source
from hf_wbc.hub.destination import parse_destination
from hf_wbc.hub.model import model_publication
from hf_wbc.hub.model_card import model_card
from hf_wbc.models.exposure import Exposure
from hf_wbc.shipped import shipped

RECORD = Path(__file__).with_name("record.json")
RENDERED = "model_cards/rendered/model.md"
TO = parse_destination("lab/wbc-vit", "model")


@pytest.fixture
def real() -> dict[str, Any]:
    """The record of a real run, MSTN from Acevedo_20 to Tecom's images, as it was published."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def rendered(record: Mapping[str, Any], **more: Any) -> str:
    seen = Exposure(record["model"]["exposure"]).after(["acevedo_20"], ["tecom_jiangxi"])
    return model_card(record, seen, "lab/wbc-model", dataset_scripts.known(), **more)


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def test_the_rendered_card_is_what_the_template_makes_of_the_record(real: dict[str, Any]) -> None:
    text = rendered(real, picture="confusion.png")
    assert text == shipped(RENDERED).read_text(encoding="utf-8"), f"write {RENDERED} anew"


def test_the_hub_reads_every_score_of_the_record(real: dict[str, Any]) -> None:
    found = {
        (each.dataset_name, each.dataset_split, each.metric_type, each.metric_name.split(";")[0]): (
            each.metric_value
        )
        for each in ModelCard(rendered(real)).data.eval_results
    }
    for domain, entry in real["results"].items():
        scores = entry["test"]
        over = f"over {scores['num_classes']} classes"
        assert found[domain, "test", "f1", f"macro-F1 {over}"] == scores["macro_f1"]
        assert found[domain, "test", "accuracy", "accuracy"] == scores["accuracy"]
        low, high = scores["intervals"]["macro_f1"]
        assert f"**{scores['macro_f1']:.3f} [{low:.3f}, {high:.3f}]**" in rendered(real)
    assert {split for _, split, *_ in found} == {"test", "validation", "train+validation+test"}


@pytest.mark.parametrize("size", [(360, 363), (401, 250), (251, 251)])
def test_the_three_lines_cut_what_training_cuts(
    real: dict[str, Any], size: tuple[int, int]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", rendered(real), re.DOTALL)
    lines = [line for line in code.splitlines() if re.match(r"(side|left, top|cell) =", line)]
    assert len(lines) == 3
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    names: dict[str, Any] = {"image": Image.fromarray(pixels), "um_per_px": 0.1}
    exec("\n".join(lines), names)
    np.testing.assert_array_equal(np.asarray(names["cell"]), crop_um(pixels, 0.1))


def test_its_snippet_runs_and_answers_with_the_eleven(
    runs: Mapping[str, Path],
    labs: Mapping[str, Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = parse_destination(str(tmp_path / "wbc-vit"), "model")
    files = model_publication(runs["vit"], to, labs).files
    for name, content in files.items():
        path = tmp_path / "wbc-vit" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    Image.new("RGBA", (80, 60), (200, 40, 90, 255)).save(tmp_path / "cell.png")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(
        r"```python\n(.*?)```", (tmp_path / "wbc-vit" / "README.md").read_text(), re.DOTALL
    )
    exec(compile(code, "README.md", "exec"), {})
    assert len(re.findall(r"'label': '\w+'", capsys.readouterr().out)) == 11


def test_what_was_chosen_by_target_labels_is_marked_wherever_it_is_scored(
    real: dict[str, Any],
) -> None:
    assert "Oracle" not in rendered(real)
    real["selection"] |= {"rule": "oracle", "sees": "target labels"}
    text = rendered(real)
    assert "> **Oracle.** Labels of tecom_jiangxi picked these weights." in text
    assert "which saw **target labels**" in text
    names = [each.metric_name for each in ModelCard(text).data.eval_results]
    assert all("which saw target labels: no result" in name for name in names)


def test_a_backbone_that_has_seen_the_target_is_marked(real: dict[str, Any]) -> None:
    real["model"] |= {"exposure": "13 public sets", "exposed_to": ["tecom_jiangxi"]}
    text = rendered(real)
    assert "> **Exposed.** The backbone had seen images of tecom_jiangxi before" in text
    assert "Exposure unknown" not in text


def test_what_a_pipeline_does_not_do_is_said_with_its_scores(real: dict[str, Any]) -> None:
    real["images"]["note"] = "model/ was trained on images blurred: a pipeline does not"
    real["images"]["pipeline_scores"] = {"tecom_jiangxi": {"macro_f1": 0.1234, "num_classes": 4}}
    text = rendered(real)
    assert "> **More than a pipeline does.** It was trained on images blurred" in text
    assert "- tecom_jiangxi: macro-F1 0.123 over 4 classes" in text


def test_unlabelled_targets_have_no_scores_and_the_card_is_whole(real: dict[str, Any]) -> None:
    real["results"]["tecom_jiangxi"] = {"role": "target", "test": None, "transductive": None}
    real["calibration"]["domains"]["tecom_jiangxi"] = {"role": "target", "test": None}
    text = body(rendered(real))
    assert "tecom\\_jiangxi (target)" not in text and "acevedo\\_20 (source)" in text


def test_it_is_clean_markdown(real: dict[str, Any]) -> None:
    for text in (body(rendered(real)), body(rendered(real, licence="cc-by-4.0"))):
        for trace in ("\n\n\n", "{{", "{%", "None", "nan", "[]"):
            assert trace not in text
        assert text.endswith("from the run's record alone.\n")
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            lines = re.sub(r"\\\|", "", block).splitlines()
            assert len({line.count("|") for line in lines}) == 1, block


def test_a_fresh_base_in_a_folder_is_no_repository(
    real: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "build/tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    real["model"] |= {"name": "build/tiny", "revision": "fresh:0123456789abcdef"}
    text = rendered(real)
    assert "build/tiny" not in text and "base_model" not in text
    assert "--model tiny" in text


def test_the_record_in_the_repository_is_as_it_is_published(real: dict[str, Any]) -> None:
    assert "/" not in json.dumps([real["config"]["sources"], real["config"]["model"]])
    assert real["config"]["sources"] == ["acevedo_20"]
