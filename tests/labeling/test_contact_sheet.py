"""The page to label on: complete without a network, with hidden suggestions and escaped names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.chromium import chromium

from hf_wbc.data.labels_file import OTHER, SKIP, read_answers
from hf_wbc.labeling.contact_sheet import KEYS, write_sheet
from hf_wbc.taxonomy import NAMES


def test_every_label_has_its_own_key() -> None:
    assert set(KEYS.values()) == {*NAMES, OTHER, SKIP}
    assert "u" not in KEYS and "q" not in KEYS  # undo and stop


def test_page_shows_every_cell_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a" / "sheet.html"
    names = ["b.png", 'a"><script>.png', "c.png"]
    squares = {name: np.full((28, 28, 3), 200, np.uint8) for name in names}
    write_sheet(path, "my lab", squares, {"b.png": "monocyte 80%"}, out="l.csv", reader="AB")
    page = path.read_text()
    shown = re.findall(r'data-id="([^"]*)"', page)
    assert shown[0] == "b.png" and shown[2] == "c.png" and len(shown) == 3
    assert "<script>.png" not in page and page.count("data:image/jpeg") == 3
    assert 'value="AB"' in page and "monocyte 80%" in page and 'class="suggest"' not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """Open a window of a real browser, without a network."""
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, accept_downloads=True, offline=True
        )
        context.set_default_timeout(60_000)
        yield context
        context.close()


@pytest.mark.slow
@pytest.mark.ci
def test_labels_made_in_the_browser_are_read_back(tmp_path: Path, window: Any) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "labels.html"
    names = ["smear 1/a,1.png", "b.png", 'c".png', "d.png", "e.png"]
    squares = {name: rng.integers(0, 255, (28, 28, 3), dtype=np.uint8) for name in names}
    write_sheet(path, "my lab", squares, {"b.png": "monocyte 80%"}, out="labels.0.csv", reader="AB")
    page = window.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    assert page.locator("img").evaluate_all("all => all.every(each => each.naturalWidth > 0)")
    assert not page.locator(".suggestion", has_text="80%").is_visible()
    page.locator("#suggest").check()
    assert page.locator(".suggestion", has_text="80%").is_visible()
    page.locator(".cells li").first.click()  # the switch has the focus
    for key in "sml":
        page.keyboard.press(key)
    page.keyboard.press("u")
    page.keyboard.press("e")
    page.reload()  # what was answered is kept, and the page goes on
    assert page.locator("#count").inner_text() == "3 of 5 labeled"
    page.locator(".cells li").nth(3).click()
    page.keyboard.press("o")
    page.locator("button[data-label=skip]").click()
    assert page.locator("#count").inner_text() == "5 of 5 labeled"
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "labels.0.csv"
    saved = tmp_path / "labels.0.csv"
    download.value.save_as(saved)
    answers = read_answers(saved)
    assert {a.image_id: a.label for a in answers} == dict(
        zip(
            names, ("neutrophil_segmented", "monocyte", "eosinophil", OTHER, SKIP), strict=True
        )
    )  # fmt: skip
    assert all(a.reader == "AB" and a.seconds is not None for a in answers)
    page.close()
    assert faults == []
