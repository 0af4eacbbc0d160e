"""What the page is for: from ten fields of view to a signed report, in a real browser."""

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.fields import draw_field

from hf_wbc.app.page_text import cell_name, is_outside
from hf_wbc.app.slide_html import REVIEW_CLASSES
from hf_wbc.taxonomy import CLINICAL_ORDER, ERYTHROBLAST

pytestmark = [pytest.mark.slow, pytest.mark.ci]
FIELDS = Path(__file__).resolve().parents[3] / "shared/data/bccd_fields/JPEGImages"
NUM_FIELDS, NUM_CORRECTED = 10, 12
GIVEN = ("s", "l", "e", "m", "b", "a", "t", "n", "1", "l", "s", "x")
"""Keys of the corrections: classes, a nucleated red cell, and a platelet, which is not counted."""
OTHER = "y"
"""Key that is pressed where the proposed class is that of the planned key already."""
LONGEST_MS = 400_000
"""How long a busy machine may take to load the model and to find the cells."""
STATE = """() => {
  const review = window.wbcReview.of('#many-cells');
  return [...review.cells.values()].map((cell) =>
    ({ number: cell.number, label: cell.label, out: cell.is_unidentified }));
}"""


@pytest.fixture(scope="module")
def ten_fields(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real fields, four of them with two white cells, or drawn ones where these are absent."""
    if FIELDS.is_dir():
        boxes = FIELDS.parent / "Annotations"
        numbers = {}
        for path in sorted(FIELDS.glob("*.jpg")):
            text = (boxes / f"{path.stem}.xml").read_text()
            numbers[path] = [text.count(f"<name>{name}</name>") for name in ("WBC", "RBC")]
        order = sorted(numbers, key=lambda path: -numbers[path][1])  # red cells give the scale
        two = [path for path in order if numbers[path][0] == 2]
        one = [path for path in order if numbers[path][0] == 1]
        return [*two[:4], *one[: NUM_FIELDS - 4]]
    folder = tmp_path_factory.mktemp("fields")
    for number in range(NUM_FIELDS):
        pixels = draw_field(white=((14.0, 16.0), (45.0, 26.0)), seed=number)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_ten_fields_become_a_signed_report(
    served_shipped: Any,
    open_window: Callable[..., Any],
    ten_fields: list[Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("reportlab", reason="the PDF needs the extra app")
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs the extra test")
    context = open_window(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.goto(served_shipped.url)
    page.get_by_role("tab", name="Many cells").click()
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    page.locator("#many-drop input[type=file]").set_input_files(ten_fields)
    page.wait_for_selector(".review .card", timeout=LONGEST_MS)
    seconds["found"] = time.perf_counter() - start
    cells = {cell["number"]: cell for cell in page.evaluate(STATE)}
    assert page.locator(".field-view").count() == NUM_FIELDS
    assert page.locator(".field-box").count() == len(cells) >= NUM_CORRECTED
    named = correct(page, cells)
    seconds["corrected"] = time.perf_counter() - start
    page.locator("input[data-reviewer]").fill("Dr. Example")
    page.locator("input[data-sign]").check()
    with page.expect_download() as download:
        page.locator("#many-pdf").click()
    download.value.save_as(tmp_path / "report.pdf")
    seconds["report"] = time.perf_counter() - start
    print({name: round(value, 1) for name, value in seconds.items()})
    first = pypdf.PdfReader(tmp_path / "report.pdf").pages[0].extract_text()
    assert_numbers(first, cells, named)
    assert_box_shows_its_cell(page)
    assert f"{NUM_CORRECTED} of {len(cells)} cells reviewed" in first
    assert "Signed by Dr. Example" in first
    context.close()


def correct(page: Any, cells: dict[int, dict[str, Any]]) -> dict[int, int]:
    """Give twelve cells another class with one key each; returns the classes by number."""
    ids = {each.key: each.id for each in REVIEW_CLASSES}
    page.locator("[data-option=sort]").select_option(label="number")
    page.locator(".review .card").first.click()
    named = {}
    for key in GIVEN:
        number = int(page.evaluate("document.activeElement.dataset.cell"))
        if number in named:  # all cells behind the current one have been given a class
            number = min(set(cells) - set(named))
            page.locator(f".card[data-cell='{number}']").click()
        pressed = OTHER if ids[key] == cells[number]["label"] else key
        page.keyboard.press(pressed)
        named[number] = ids[pressed]
    page.wait_for_selector("[data-saved-state] >> text=/^saved$/")
    return named


def assert_numbers(text: str, cells: dict[int, dict[str, Any]], named: dict[int, int]) -> None:
    """Assert that the report states what was corrected: counts, percents and denominators."""
    counted = Counter(
        named.get(number, cell["label"])
        for number, cell in cells.items()
        if number in named or not cell["out"]
    )
    white = [label for label in CLINICAL_ORDER if label != ERYTHROBLAST]
    total = sum(counted[label] for label in white)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    said = " ".join(lines)
    for label in white:
        share = f"{100 * counted[label] / total:.1f}"
        pattern = rf"{re.escape(cell_name(label))} {counted[label]} {re.escape(share)} "
        assert re.search(pattern, said), (pattern, said)
    per_100 = f"{100 * counted[ERYTHROBLAST] / total:.1f} per 100 WBC"
    assert per_100 in said, (per_100, said)
    outside = sum(is_outside(label) for label in named.values())
    assert f"{outside} named platelet or clump" in said


def assert_box_shows_its_cell(page: Any) -> None:
    """A box hides nothing under the mouse and keeps the field in view; chosen again, it leaves."""
    box = page.locator(".field-box").first
    box.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    box.click()
    color = "(box) => getComputedStyle(box).backgroundColor"
    page.wait_for_timeout(300)  # a color may fade in
    assert box.evaluate(color) == "rgba(0, 0, 0, 0)"
    assert page.evaluate("scrollY") == before
    box.click()
    page.wait_for_function(f"scrollY > {before}")
    assert page.evaluate("document.activeElement.dataset.cell") == box.get_attribute("data-box")
