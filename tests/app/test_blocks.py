"""The app in a real browser, used as a person would use it."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import app_files as files

BARS = "table.bars tbody tr"


def slow(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that only CI runs; the others open each tab as well."""
    return pytest.mark.slow(pytest.mark.ci(test))


def drop(page: Any, place: str, uploads: dict[str, bytes]) -> None:
    """Upload files."""
    given = [
        {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        for name, data in uploads.items()
    ]
    page.locator(f"{place} input[type=file]").set_input_files(given)


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def read_slide(page: Any) -> None:
    """Read the drawn slide in the tab Many cells."""
    open_tab(page, "Many cells")
    page.locator("#many-toy").click()
    page.wait_for_selector(".review .card")


def test_drawn_cell_shows_class_bars_and_prediction_set(page: Any) -> None:
    page.get_by_role("button", name="eosinophil").click()
    page.wait_for_selector("article.one")
    assert "eosinophil" in page.locator("article.one h2").inner_text()
    assert page.locator(BARS).count() == 11
    shares = [
        float(text.strip("<>% ")) / 100
        for text in page.locator(f"{BARS} td:nth-child(2)").all_inner_texts()
    ]
    assert max(shares) > 0.5
    assert page.locator("article.one .pictures img").count() == 3
    assert page.locator("article.one ul.cells img").count() == 6
    assert "such sets contain the true class" in page.locator("article.one header").inner_text()
    assert page.locator("article.one .framed rect").count() == 2
    map_caption = page.locator("article.one figcaption").last.inner_text()
    assert re.search(r"the most marked fifth of the image blurred it is [<>]?[\d.]+ %", map_caption)


def test_typed_scale_rereads_uploaded_cell(page: Any) -> None:
    drop(page, "#one-drop", {"cell.png": files.encoded()})
    page.wait_for_selector("article.one")
    caption = page.locator("article.one figcaption").first
    assert "assumed, as there is nothing to measure" in caption.inner_text()
    scale = page.locator("#one-scale input")
    scale.fill("0,5")
    scale.press("Enter")
    page.wait_for_function(
        "document.querySelector('article.one figcaption')?.innerText.includes('at 0.5')"
    )
    assert "guess" not in caption.inner_text()
    frame = page.locator("article.one .framed rect").first
    assert frame.get_attribute("width") == "50"
    scale.fill("0.08")  # part of a preset's name, which it must not choose
    scale.blur()
    page.wait_for_function(
        "document.querySelector('article.one figcaption')?.innerText.includes('at 0.08')"
    )
    page.locator("#one-scale-preset input").click()
    page.get_by_role("option", name="matek_19").click()
    page.wait_for_function(
        "document.querySelector('article.one figcaption')?.innerText.includes('at 0.0725')"
    )
    assert scale.input_value() == "0.07246 µm/px"
    scale.fill("wide")
    scale.press("Enter")
    page.wait_for_selector("#one-result .warning >> text=is not a number")


@slow
def test_non_cell_upload_shows_message_and_next_cell_is_read(page: Any) -> None:
    for name, data, words in (
        ("report.pdf", b"%PDF-1.7", "PDF document"),
        ("<img src=x onerror=alert(1)>.png", b"", "the file is empty"),
        ("bomb.png", files.png_header(60_000, 60_000), "more than 100 megapixels"),
    ):
        drop(page, "#one-drop", {name: data})
        page.wait_for_selector(f"#one-result .warning >> text={words}")
        assert page.locator("#one-result img").count() == 0
        drop(page, "#one-drop", {"cell.png": files.encoded()})
        page.wait_for_selector("article.one")


@slow
def test_white_image_is_reported_as_empty(page: Any) -> None:
    import io

    from PIL import Image

    white = io.BytesIO()
    Image.new("RGB", (300, 300), "white").save(white, "PNG")
    drop(page, "#one-drop", {"white.png": white.getvalue()})
    page.wait_for_selector("article.one .warning >> text=The image is empty")


def test_slide_is_counted_sorted_filtered_and_corrected(page: Any) -> None:
    read_slide(page)
    cards = page.locator(".review .card")
    assert cards.count() == 100
    named = page.locator("#many-count tbody tr td:nth-child(2)").all_inner_texts()
    total = int(page.locator("#many-count tfoot td").first.inner_text())
    assert len(named) == 10 and sum(map(int, named)) == total  # white cells
    said = page.locator("#many-count section").inner_text()
    left_out = re.search(r"Left out: (\d+) unlike the cells", said)
    red = re.search(r"nRBC\): [\d.]+ per 100 WBC.*\((\d+) counted", said)
    assert red and total + int(red[1]) + int(left_out[1] if left_out else 0) == 100
    flags = page.locator("#many-count .warning").all_inner_texts()
    assert any("eft shift: " in flag and "Review first: no. " in flag for flag in flags)

    page.locator("[data-option=sort]").select_option(label="number")
    for group in page.locator(".review .group:visible").all():
        numbers = [int(text) for text in group.locator(".no").all_text_contents()]
        assert numbers == sorted(numbers)

    page.locator("[data-option=only]").select_option(label="monocyte")
    shown = page.locator(".review .card:visible")
    before = shown.count()
    assert 0 < before < 100
    assert f"{before} of 100 shown" in page.locator("[data-shown]").inner_text()

    blasts = page.locator("#many-count tbody tr", has_text="blast (myeloblast)").locator("td").first
    shown.first.click()
    page.keyboard.press("x")
    page.wait_for_function(
        "n => [...document.querySelectorAll('#many-count tbody tr')].some("
        "row => row.innerText.includes('(myeloblast)') && row.cells[1].innerText == n)",
        arg=str(int(named[9]) + 1),
    )
    assert blasts.inner_text() == str(int(named[9]) + 1)
    assert shown.count() == before - 1  # the filter follows the class that a person gave
    page.keyboard.press("2")
    page.wait_for_selector("#many-count >> text=1 named smudge cell")


@slow
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_has_sufficient_contrast(page: Any, mode: str) -> None:
    page.goto(f"{page.url}?__theme={mode}")
    read_slide(page)
    assert page.evaluate((Path(__file__).parents[1] / "support" / "contrast.js").read_text()) == {}
    labels = page.locator("[data-testid=block-info]").all_inner_texts()
    own = [text.strip() for text in labels if "cale of" in text]
    assert len(own) == len(set(own)) == 4


@slow
def test_table_and_report_can_be_downloaded(page: Any, tmp_path: Path) -> None:
    read_slide(page)
    page.locator(".card[data-cell='1']").click()
    page.keyboard.press("a")  # and at once, before it is saved:
    with page.expect_download() as download:
        page.locator("#many-csv").click()
    download.value.save_as(tmp_path / "cells.csv")
    rows = list(csv.DictReader((tmp_path / "cells.csv").open()))
    assert len(rows) == 100
    assert rows[0]["your_class"] == rows[0]["counted_as"] == "basophil"
    assert rows[1]["your_class"] == ""
    for row in rows:
        assert sum(float(row[key]) for key in row if key.startswith("p_")) == pytest.approx(
            1, abs=1e-4
        )
    with page.expect_download() as download:
        page.locator("#many-report").click()
    download.value.save_as(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    report = page.context.new_page()
    report.set_content(text)
    assert "Differential count" in report.locator("h1").inner_text()
    assert "1 of 100 cells reviewed by a person" in report.locator("dl").inner_text()
    assert report.locator("img").count() == 100


def test_zip_adds_to_slide_and_bad_files_are_named(page: Any) -> None:
    open_tab(page, "Many cells")
    data = files.zipped(
        {"细胞 1.png": files.encoded(), "2.png": files.encoded(seed=5), "3.png": b""}
    )
    drop(page, "#many-drop", {"slide.zip": data})
    page.wait_for_selector(".review .card")
    status = page.locator("#many-status")
    assert "2 cells predicted" in status.inner_text()
    assert "slide.zip: 3.png: the file is empty" in status.inner_text()
    page.locator(".card[data-cell='2']").click()
    assert "细胞 1.png" in page.locator(".inspector").inner_text()
    drop(page, "#many-drop", {"stack.tif": files.pages("RGB", "RGB")})
    page.locator("#many-add").click()
    page.wait_for_selector("#many-status >> text=3 cells predicted")
    assert "stack.tif, page 1: identical to image no. 2" in status.inner_text()
    page.locator("#many-over").click()
    page.locator("#many-discard").click()
    page.wait_for_selector(".review .card", state="detached")


@slow
def test_domain_map_places_slide_among_training_cells(page: Any) -> None:
    open_tab(page, "Does it fit my laboratory?")
    page.locator("#domains-go").click()
    page.wait_for_selector("#domains-result >> text=It needs at least 5 cells")
    read_slide(page)
    open_tab(page, "Does it fit my laboratory?")
    page.locator("#domains-go").click()
    page.wait_for_selector("#domains-result img")
    text = page.locator("#domains-result").inner_text()
    assert "toy_acevedo_20" in text and "toy_matek_19" in text
    assert "Only this model is loaded" in text


def test_about_states_intended_use_and_limits(page: Any) -> None:
    open_tab(page, "About")
    page.locator("#about table").wait_for()
    text = page.locator("#about").inner_text()
    assert "not a medical device" in text
    assert page.locator("#about table tbody tr").count() == 11
    assert "has no training record" in text
    assert "CC BY 4.0" in text and "deleted as soon as they are decoded" in text
