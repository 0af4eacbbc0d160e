"""The sample report: the numbers of the count, a one-page PDF with an appendix, and valid FHIR."""

import base64
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from support.app_predictions import prediction

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.downloads import (
    write_fhir_download,
    write_html_download,
    write_json_download,
    write_pdf_download,
)
from hf_wbc.app.report_fhir import CODES, PANEL
from hf_wbc.app.sample_report import ReportFacts, report_facts, sample_report
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.app.uploads import UploadedImage
from hf_wbc.evaluation.smear_limits import load_limits, load_ranges
from hf_wbc.taxonomy import NAMES, class_id

BAND, BLAST, SEGMENTED = map(class_id, ("neutrophil_banded", "myeloblast", "neutrophil_segmented"))
SIGNED = report_facts(
    {"names": {"1": "Ward 7 <b>é</b>"}, "reviewer": "Dr. Ü", "signed": "2026-11-30T10:00:00.000Z"},
    1,
)


@pytest.fixture(scope="module")
def service() -> Service:
    predictor = SimpleNamespace(
        held_out=None,
        abstention=None,
        reference_set=SimpleNamespace(gallery=None),
        pretrained=SimpleNamespace(revision="abc123"),
    )
    return Service(PageModel.loaded("runs/x/model", cast(Any, predictor)))


@pytest.fixture(scope="module")
def slide() -> Slide:
    """120 cells: 60 segmented, 50 band (2 of them relabeled as blasts by a person), 10 nRBC."""
    rng = np.random.default_rng(0)
    kinds = ["neutrophil_segmented"] * 60 + ["neutrophil_banded"] * 50 + ["erythroblast"] * 10
    cells = []
    for number, kind in enumerate(kinds, 1):
        pixels = rng.integers(0, 255, (60, 60, 3), dtype=np.uint8)
        given = BLAST if number in (61, 62) else SEGMENTED if number <= 20 else None
        answer = replace(prediction(**{kind: 1.0}), box=(0, 0, 60, 60))
        cells.append(SlideCell(number, UploadedImage(f"{number}.png", pixels), answer, given))
    return Slide(tuple(cells))


def test_report_compares_count_with_reference_ranges(service: Service, slide: Slide) -> None:
    report = sample_report(service, slide, SIGNED)
    marks = {NAMES[each.row.label]: (each.row.counted, each.mark) for each in report.rows}
    assert marks["neutrophil_segmented"] == (60, "")
    assert marks["neutrophil_banded"] == (48, "high")
    assert marks["lymphocyte_typical"] == (0, "low")
    assert marks["myeloblast"] == (2, "high")
    assert report.reviewed == "22 of 120 cells reviewed by a person, 2 changed"
    assert report.status.startswith("Signed by Dr. Ü, 2026-")
    assert [(name, len(cells)) for name, cells in report.groups] == [
        ("segmented neutrophil", 60),
        ("band neutrophil", 48),
        ("blast (myeloblast)", 2),
        ("erythroblast (nRBC)", 10),
    ]


def test_custom_ranges_replace_defaults(tmp_path: Any) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[ranges.eosinophil]\nlow = 1\nhigh = 4\n[left_shift]\nabove = 15\n")
    assert load_ranges(own)["eosinophil"].high == 4 and load_ranges(own)["basophil"].high == 2
    assert load_limits(own)["left_shift"].above == 15
    for text, words in (
        ("[ranges.eosinophils]\nlow = 1\nhigh = 4\n", "unknown class"),
        ("[ranges.eosinophil]\nlow = 5\nhigh = 4\n", "percentages"),
        ("[ranges.eosinophil]\nlow = 1\n", "percentages"),
        ("[ranges.eosinophil]\nlow = 1\nhigh = 2\nabove = 3\n", "only"),
    ):
        own.write_text(text)
        with pytest.raises(ValueError, match=words):
            load_ranges(own)


def test_pdf_has_one_page_and_appendix_of_all_cells(service: Service, slide: Slide) -> None:
    pytest.importorskip("reportlab", reason="the PDF needs the extra app")
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs the extra test")
    file = write_pdf_download(service, slide, SIGNED)
    assert file["name"].endswith(".pdf")
    pdf = pypdf.PdfReader(io.BytesIO(base64.b64decode(file["base64"])))
    first, *appendix = [page.extract_text() for page in pdf.pages]
    size = pdf.pages[0].mediabox
    assert (round(size.width), round(size.height)) == (595, 842)
    for words in (
        "Ward 7 <b>é</b>", "Signed by Dr. Ü", "43.6", "nRBC", "not a medical device", "abc123",
        "22 of 120 cells reviewed", "Reference ranges",
    ):  # fmt: skip
        assert words in first, words
    assert "Appendix" not in first and "Appendix" in appendix[0]
    found = re.findall(r"(\d+) (?:confirmed|changed|not reviewed)", " ".join(appendix))
    assert sorted(map(int, found)) == list(range(1, 121))
    assert all("reviewed" in page or "confirmed" in page for page in appendix)  # no empty page


def test_pdf_first_page_stays_one_page(service: Service, slide: Slide) -> None:
    pytest.importorskip("reportlab", reason="the PDF needs the extra app")
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs the extra test")
    from hf_wbc.app.report_pdf import pdf_bytes

    report = sample_report(service, slide, SIGNED)
    assert report.count is not None
    long = replace(report, count=replace(report.count, flags=("Many words. " * 40,) * 12))
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf_bytes(long))).pages]
    assert "Appendix" in pages[1] and "Reviewer" in pages[0]


def test_html_report_shows_same_values_and_escapes_names(service: Service, slide: Slide) -> None:
    text = write_html_download(service, slide, SIGNED)["text"]
    assert "Ward 7 &lt;b&gt;é&lt;/b&gt;" in text and "<b>é" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("<figure>") == 120
    rows = re.findall(r'<div class="row">(.*?)</div>', text, re.DOTALL)
    assert max(row.count("<figure>") for row in rows) == 7
    assert "Draft: not signed" in write_html_download(service, slide, ReportFacts())["text"]


def test_fhir_bundle_validates_against_published_definitions(
    service: Service, slide: Slide
) -> None:
    bundles = pytest.importorskip("fhir.resources.R4B.bundle", reason="needs the extra test")
    text = write_fhir_download(service, slide, SIGNED)["text"]
    bundle = bundles.Bundle.model_validate_json(text)
    head, *observations = [entry.resource for entry in bundle.entry]
    assert head.status == "final" and head.code.coding[0].code == PANEL[0] == "24318-8"
    urns = {entry.fullUrl for entry in bundle.entry[1:]}
    assert {each.reference for each in head.result} == urns and len(urns) == 11
    values = {each.code.coding[0].code: each.valueQuantity for each in observations}
    assert float(values[CODES["neutrophil_banded"][0]].value) == 43.6
    red = values[CODES["erythroblast"][0]]
    assert (float(red.value), red.unit) == (9.1, "/100{WBCs}")
    draft = json.loads(write_fhir_download(service, slide, ReportFacts())["text"])
    assert {each["resource"]["status"] for each in draft["entry"]} == {"preliminary"}


def test_loinc_codes_have_valid_check_digits() -> None:
    for code in (PANEL[0], *(code for code, _ in CODES.values())):
        number, check = code.split("-")
        digits = [int(each) for each in reversed(number)]
        doubled = [sum(divmod(2 * d, 10)) if i % 2 == 0 else d for i, d in enumerate(digits)]
        assert (10 - sum(doubled) % 10) % 10 == int(check), code
    assert set(CODES) == set(NAMES)


def test_json_report_contains_every_cell_and_the_count(service: Service, slide: Slide) -> None:
    values = json.loads(write_json_download(service, slide, SIGNED)["text"])
    assert len(values["cells"]) == 120 and values["num_changed"] == 2
    assert values["differential"]["classes"]["myeloblast"]["counted"] == 2
    assert values["signed"].startswith("2026-11-30")


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"names": 3, "reviewer": 4, "signed": 5}, {"signed": "2026-11-30T10:00:00Z"}],
)
def test_malformed_report_facts_are_dropped(data: Any) -> None:
    assert report_facts(data, 3) == ReportFacts("Sample 3")


def test_names_are_cleaned_to_one_short_line() -> None:
    facts = report_facts({"names": {"1": "a\nb\u202e" + "x" * 200}, "reviewer": " \t "}, 1)
    assert facts.sample.startswith("abx") and len(facts.sample) == 80 and facts.reviewer == ""


@pytest.mark.parametrize("name", ["\ud800", "\ufeff\u200b", "\u2028"])
def test_invisible_name_is_no_name(name: str) -> None:
    assert report_facts({"names": {"1": name}, "reviewer": name}, 1) == ReportFacts("Sample 1")


@pytest.mark.parametrize("name", ["Probe \u8840", "\u0639 7", "\U00020000"])
def test_pdf_never_loses_letters_of_a_name(service: Service, slide: Slide, name: str) -> None:
    for facts in (ReportFacts(name), ReportFacts(reviewer=name)):
        with pytest.raises(ValueError, match=re.escape(name)):
            write_pdf_download(service, Slide(slide.cases[:1]), facts)
        assert write_html_download(service, Slide(slide.cases[:1]), facts)["text"]


def test_sample_without_white_cells_has_report_but_no_fhir(service: Service, slide: Slide) -> None:
    red = Slide(slide.cases[-3:])
    assert "No white cell" in write_html_download(service, red, ReportFacts())["text"]
    with pytest.raises(ValueError, match="no white cell"):
        write_fhir_download(service, red, ReportFacts())
