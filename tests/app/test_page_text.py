"""The app's sentences agree with its numbers."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from support.app_predictions import prediction

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.count import CellCount, CountRow, Estimate, count_cells
from hf_wbc.app.downloads import write_csv_download
from hf_wbc.app.limits import LIMITS
from hf_wbc.app.page_text import OUTSIDE as NONE_OF_THE_ELEVEN
from hf_wbc.app.page_text import confusables, map_sentence, reasons_to_look, set_sentences
from hf_wbc.app.sample_report import ReportFacts
from hf_wbc.app.scale_input import OPTICS, parse_scale, presets
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.slide_html import common_warnings, count_rows
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.app.uploads import UploadedImage, Uploads
from hf_wbc.inference.cell_prediction import OUTSIDE
from hf_wbc.inference.saliency import DeletionTest
from hf_wbc.taxonomy import class_id

SMUDGE = next(label for label, name in NONE_OF_THE_ELEVEN.items() if name == "smudge cell")
MYELOCYTE, META, MONOCYTE = map(class_id, ("myelocyte", "metamyelocyte", "monocyte"))


def test_confusion_severity_follows_lineage_tree() -> None:
    found = confusables(prediction(myelocyte=0.6, metamyelocyte=0.25, monocyte=0.1, basophil=0.05))
    assert [each.name for each in found] == ["metamyelocyte", "monocyte", "basophil"]
    assert [each.is_grave for each in found] == [False, True, False]
    assert "one step of maturation" in found[0].how_far
    assert "same lineage" in found[2].how_far


def test_missed_blast_is_graver_than_false_alarm() -> None:
    (missed,) = confusables(prediction(lymphocyte_typical=0.8, myeloblast=0.2))
    (alarm,) = confusables(prediction(myeloblast=0.8, lymphocyte_typical=0.2))
    assert missed.is_grave and "would be missed: a critical" in missed.how_far
    assert alarm.is_grave and "a false alarm" in alarm.how_far
    (step,) = confusables(prediction(myelocyte=0.8, promyelocyte=0.2))
    assert step.is_grave and "would be missed" in step.how_far


def test_set_sentences_describe_prediction_set() -> None:
    one = prediction(myelocyte=1.0)
    assert "saved without" in set_sentences(one, None, ())[0]
    assert "No class" in set_sentences(one, 0.1, ())[0]
    alone = replace(one, conformal_set=(MYELOCYTE,))
    assert set_sentences(alone, 0.1, ())[0] == "The 90 % prediction set contains only: myelocyte."
    two = replace(one, conformal_set=(MYELOCYTE, META))
    assert (
        set_sentences(two, 0.1, ())[0]
        == "The 90 % prediction set contains: myelocyte and metamyelocyte."
    )
    assert "90 of 100" in set_sentences(two, 0.1, ())[-1]
    assert (
        set_sentences(two, 0.1, (META,))[0] == "The 90 % prediction set contains only: myelocyte."
    )
    assert "exclude metamyelocyte" in set_sentences(two, 0.1, (META,))[1]
    other = replace(one, conformal_set=(META,))
    assert "fits this class worse" in set_sentences(other, 0.1, ())[0]
    rare = set_sentences(two, 0.1, (MYELOCYTE,))[0]
    assert rare.endswith("to judge how well it fits. The cell may be a metamyelocyte.")
    assert "No other class" in set_sentences(alone, 0.1, (MYELOCYTE,))[0]
    assert len(set_sentences(alone, 0.1, (MONOCYTE,))) == 2  # it is in no set here


def test_reasons_to_look_lists_each_reason() -> None:
    sure = replace(prediction(myelocyte=1.0), conformal_set=(MYELOCYTE, META))
    assert reasons_to_look(sure, (META,)) == []
    assert reasons_to_look(sure, ()) == ["may be metamyelocyte"]
    assert reasons_to_look(replace(sure, conformal_set=()), ()) == []
    assert (
        "unlike" in reasons_to_look(replace(sure, rejected=True, warnings=(OUTSIDE,)), (META,))[0]
    )
    assert reasons_to_look(replace(sure, warnings=("The cell is blurred.",)), (META,)) == [
        "The cell is blurred"
    ]
    assert "blast" in reasons_to_look(prediction(myeloblast=1.0), ())[0]


def test_model_threshold_decides_which_cells_may_be_blasts() -> None:
    unsure = prediction(monocyte=0.9, myeloblast=0.1)
    assert reasons_to_look(unsure, ()) == []
    assert reasons_to_look(unsure, (), 0.1) == ["may be a blast"]
    assert reasons_to_look(unsure, (), 0.11) == []
    assert reasons_to_look(prediction(monocyte=0.8, myeloblast=0.2), ()) == ["may be a blast"]
    said = replace(unsure, conformal_set=(MONOCYTE, class_id("myeloblast")))
    assert reasons_to_look(said, (), 0.1) == ["may be blast (myeloblast)"]


def test_map_sentence_reports_deletion_test_result() -> None:
    assert map_sentence(DeletionTest(0.9, 0.1, (0.8, 0.9)), MONOCYTE).startswith("Tested: ")
    failed = map_sentence(DeletionTest(0.9, 0.86, (0.8, 0.9)), MONOCYTE)
    assert failed.startswith("The map fails its test for this cell, so ignore it: ")
    assert "monocyte is 90.0 %" in failed and "it is 86.0 %" in failed
    assert not DeletionTest(0.1, 0.1, (0.2,)).passed


def test_common_warning_is_shown_once() -> None:
    picture = UploadedImage("a.png", np.zeros((9, 9, 3), np.uint8))
    sharp = replace(prediction(monocyte=1.0), warnings=("Foreign: stain.",))
    blurred = replace(sharp, warnings=("Foreign: stain.", "Blurred: focus."))
    predictions = [sharp, sharp, sharp, blurred]
    slide = Slide(
        tuple(SlideCell(number, picture, each) for number, each in enumerate(predictions, 1))
    )
    assert common_warnings(slide) == {"Foreign: stain.": 4}
    service = Service(
        PageModel.loaded("model", cast(Any, SimpleNamespace(held_out=None, abstention=None)))
    )
    assert [row["reasons"] for row in count_rows(service, slide)] == [[], [], [], ["Blurred"]]


def test_count_membership_is_stated_in_table() -> None:
    predictor = SimpleNamespace(held_out=None, abstention=None)
    service = Service(PageModel.loaded("model", cast(Any, predictor)))
    picture = UploadedImage("a.png", np.zeros((9, 9, 3), np.uint8))
    away = replace(prediction(monocyte=1.0), rejected=True)
    predictions = [prediction(myelocyte=1.0), away, away, prediction(monocyte=1.0)]
    slide = Slide(
        tuple(SlideCell(number, picture, each) for number, each in enumerate(predictions, 1))
    )
    slide = slide.corrected(3, META).corrected(4, SMUDGE)
    counted = count_cells(service, slide)
    assert counted is not None
    assert counted.who_counts == (
        "In the count: 2 white cells; 1 of them named by a person. Left out: 1 unlike the cells "
        "that the model knows (until named) and 1 named smudge cell."
    )
    other = UploadedImage("b.png", np.ones((9, 9, 3), np.uint8))
    waiting = slide.added(Uploads((other,)), LIMITS).corrected(5, META)
    rows = list(
        csv.DictReader(io.StringIO(write_csv_download(service, waiting, ReportFacts())["text"]))
    )
    assert [row["counted_as"] for row in rows] == ["myelocyte", "", "metamyelocyte", "", ""]
    assert rows[4]["your_class"] == "metamyelocyte" and "not predicted yet" in rows[4]["warnings"]
    assert count_cells(service, Slide(slide.cases[1:2])) is None


def test_every_preset_yields_a_valid_scale() -> None:
    known = {"acevedo_20": 0.1, "matek_19": 1 / 13.8}
    found = [parse_scale(text, known) for _, text in presets(known)]
    assert found == [None, *(pytest.approx(v, rel=1e-3) for v in (0.1, 1 / 13.8, *OPTICS.values()))]
    assert parse_scale("matek_19", known) == 1 / 13.8 and parse_scale(0.2, {}) == 0.2


def test_partial_preset_name_is_rejected() -> None:
    assert parse_scale("0.08", {}) == 0.08  # no 40x slide scanner
    for text in ("40x slide scanner", "Estimate it from the cells", "matek"):
        with pytest.raises(ValueError, match="is not a number"):
            parse_scale(text, {"matek_19": 1 / 13.8})


@pytest.mark.parametrize(
    "said", ["0", "-1", "nan", "inf", "10", "1e-400", "0.001", "wide", "0.1.2"]
)
def test_impossible_scale_is_rejected(said: str) -> None:
    with pytest.raises(ValueError, match="scale"):
        parse_scale(said, {})


def test_bars_are_scaled_to_largest_bound() -> None:
    bound = CountRow("a", 0, "", 1, 0, 0.2, Estimate(0.2, 0.1, 0.4))
    plain = CountRow("b", 1, "", 0, 0, 0.1, None)
    count = CellCount((bound, plain), plain, "", None, (), (), 1, 0, {}, 0, None, None, True)
    assert count.most == 0.4
    assert Slide().corrected(1, 2) == Slide()


def test_flags_name_cells_to_review_and_respect_corrections() -> None:
    predictor = SimpleNamespace(held_out=None, abstention=None)
    service = Service(PageModel.loaded("model", cast(Any, predictor)))
    picture = UploadedImage("a.png", np.zeros((9, 9, 3), np.uint8))
    predictions = [prediction(myelocyte=1.0), prediction(monocyte=0.7, myeloblast=0.3)] + [
        prediction(monocyte=1.0) for _ in range(4)
    ]
    slide = Slide(
        tuple(SlideCell(number, picture, each) for number, each in enumerate(predictions, 1))
    )
    before, after = (count_cells(service, each) for each in (slide, slide.corrected(2, MONOCYTE)))
    assert before is not None and after is not None
    (blasts,) = [flag for flag in before.flags if "blasts" in flag]
    assert blasts.startswith("Possible blasts") and blasts.endswith("Review first: no. 2.")
    assert not [flag for flag in after.flags if "blasts" in flag]
    assert any("mmature granulocytes" in flag and "no. 1." in flag for flag in before.flags)
    assert any("Only 6 white cells" in flag for flag in before.flags)
