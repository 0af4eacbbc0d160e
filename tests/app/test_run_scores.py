"""The app reports the scores of its model and of others as recorded."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.about import about_html
from hf_wbc.app.domains_tab import rank_models
from hf_wbc.app.examples import EXAMPLES, draw_example
from hf_wbc.app.html_fragments import fragment, marked
from hf_wbc.app.limits import LIMITS
from hf_wbc.app.run_scores import load_run_record, run_scores
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.startup import load_in_background, make_service
from hf_wbc.app.uploads import Uploads
from hf_wbc.inference.predictor import Predictor
from hf_wbc.record_versions import upgrade_record
from hf_wbc.shipped import shipped

TOY = shipped("spaces/wbc/toy_model")
RECORD = Path(__file__).parents[1] / "support" / "card_inputs" / "record.json"


def test_load_run_record_finds_record_beside_or_above_model(tmp_path: Path) -> None:
    shutil.copytree(TOY, tmp_path / "run" / "model")
    shutil.copytree(TOY, tmp_path / "published")
    assert load_run_record(str(tmp_path / "run" / "model")) is None
    for folder in ("run", "published"):
        shutil.copy(RECORD, tmp_path / folder / "record.json")
    truth = upgrade_record(json.loads(RECORD.read_text()))
    assert load_run_record(str(tmp_path / "run" / "model")) == truth
    assert load_run_record(str(tmp_path / "published")) == truth
    (tmp_path / "published" / "record.json").write_text("{")
    with pytest.raises(ValueError, match=r"record\.json"):
        load_run_record(str(tmp_path / "published"))


def test_run_scores_match_model_card() -> None:
    record = json.loads(RECORD.read_text())
    found = run_scores(record)
    assert record["selection"]["rule"] in found.how_chosen
    rows = {(row[0].partition(" ")[0], row[1]): row for row in found.table.cells}
    for domain, result in record["results"].items():
        scores = result["test"]
        low, high = scores["intervals"]["macro_f1"]
        said = f"{scores['macro_f1']:.3f} [{low:.3f}, {high:.3f}]"
        assert rows[domain, "test images"][2:4] == (said, str(scores["num_classes"]))


def test_record_of_another_version_does_not_block_page() -> None:
    record = json.loads(RECORD.read_text())
    del record["selection"]
    with pytest.raises(ValueError, match=r"lacks 'selection': another version"):
        run_scores(record)
    service = Service(PageModel.loaded(str(TOY), Predictor.load(str(TOY)), record))
    assert "The scores cannot be shown: its record.json lacks" in about_html(service)


def test_card_markup_is_rendered_and_other_html_escaped() -> None:
    assert marked("**<img>** `a`") == "<b>&lt;img&gt;</b> <code>a</code>"
    fits = {"found": (), "left_out": ("The model “<b>” cannot be compared.",)}
    shown = fragment("domains.html", {"found": None, "fits": fits, "num_cells": 5})
    assert "“&lt;b&gt;” cannot be compared" in shown


def test_models_that_fail_to_load_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        make_service(str(TOY), [str(tmp_path / "nowhere")], {})
    broken = tmp_path / "broken"
    shutil.copytree(TOY, broken)
    (broken / "model.safetensors").write_bytes(b"0")
    said: list[str] = []
    service = make_service(str(TOY), [str(broken), str(TOY), str(TOY)], {})
    first, second = service.others
    load_in_background(service, said.append)
    with pytest.raises(Exception, match="broken"):
        _ = first.predictor
    assert second.predictor.info["image_size_px"] > 0 and service.own.record is None
    assert len(said) == 1 and str(broken) in said[0]


def test_rank_models_does_not_wait_for_loading_model() -> None:
    service = make_service(str(TOY), [str(TOY)], {})
    service.own.load()
    picture = draw_example(EXAMPLES[0])
    slide = Slide().added(Uploads((picture,)), LIMITS)
    slide = slide.answered(service.read(slide, EXAMPLES[0].um_per_px))
    found = rank_models(service, slide)
    assert len(found.found) == 1 and "is still loading" in found.left_out[0]
    service.others[0].load()
    assert len(rank_models(service, slide).found) == 2
