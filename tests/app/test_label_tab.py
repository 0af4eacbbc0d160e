"""README's ten minutes on the page: a person labels real cells, and the model adapts."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from app.conftest import HF_WBC, ROOT, Served

from hf_wbc.data.labels_file import read_answers
from hf_wbc.labeling.contact_sheet import CLASS_KEYS
from hf_wbc.labeling.pool import folder_labels
from hf_wbc.taxonomy import NAMES

pytestmark = [pytest.mark.slow, pytest.mark.ci]
CARD = ".review .group[data-group=unidentified] .card"
NAMED = ".review .card[data-state=confirmed]"
FOLDERS = {
    "neutrophil": "neutrophil_segmented", "lymphocyte": "lymphocyte_typical",
    "monocyte": "monocyte", "eosinophil": "eosinophil", "basophil": "basophil",
}  # fmt: skip


@pytest.fixture(scope="module")
def cells(shared: Path) -> dict[str, Path]:
    """Return every third image of a laboratory in another country, by file name."""
    folder = shared / "data" / "tecom_jiangxi" / "images"
    return {path.name: path for path in sorted(folder.glob("*/*.bmp"))[::3]}


def drop(page: Any, url: str, cells: dict[str, Path], reader: str) -> None:
    page.goto(url)
    page.get_by_role("tab", name="Label").click()
    page.set_input_files("#label-drop input[type=file]", [str(path) for path in cells.values()])
    page.wait_for_selector(CARD, timeout=600_000)  # all cells are embedded
    field = page.locator("#label-reader").locator("input, textarea").first
    field.fill(reader)
    field.press("Enter")


def name_of(page: Any) -> str:
    """Return the file of the cell in focus, which the page knows and the model does not need."""
    shown = page.locator(".review .inspector p.soft").first.inner_text()
    return str(shown.split(" · ")[-1]).strip()


def name_cells(page: Any, cells: dict[str, Path], goal: int) -> None:
    """Name cells with one key each, as a person would who knows them, until `goal` have a name."""
    while page.locator(NAMED).count() < goal:
        page.locator(CARD).first.click()
        folder = cells[name_of(page)].parent.name
        page.keyboard.press(CLASS_KEYS[FOLDERS[folder]])


def wait_for(page: Any, num: int) -> None:
    page.wait_for_function(
        "(num) => document.querySelector('.label-status')?.dataset.numLabels >= num", arg=num
    )


def test_labeling_a_laboratory_on_the_page_improves_the_model(
    serve: Callable[..., Served], open_window: Callable[..., Any], cells: dict[str, Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "my_lab" / "labels.csv"
    model = ROOT / "spaces" / "wbc" / "model"
    served = serve(*HF_WBC, "demo", "--model", str(model), "--labels", str(path), "--port", "0")
    window = open_window(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = window.new_page()
    drop(page, served.url, cells, "AB")
    # Nothing tells the reader what the model thinks, and no key confirms it.
    assert page.locator(".review table.bars tr").count() == 0
    assert page.locator("[data-action=confirm]").count() == 0
    name_cells(page, cells, 4)
    page.keyboard.press("Control+z")
    name_cells(page, cells, 4)
    wait_for(page, 4)
    window.close()  # the browser is killed: nothing asks, nothing is sent any more
    said = {answer.image_id: answer.label for answer in read_answers(path)}
    assert len(said) == 4
    assert all(said[name] == FOLDERS[cells[name].parent.name] for name in said)

    window = open_window(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = window.new_page()
    drop(page, served.url, cells, "AB")
    wait_for(page, 4)
    name_cells(page, cells, 40)
    wait_for(page, 40)
    page.click("#label-adapt")
    page.wait_for_selector(".label-report [data-score=macro-f1]", timeout=600_000)
    row = page.locator("[data-score=macro-f1]").inner_text()
    before, after = re.findall(r"(\d\.\d\d) \[\d\.\d\d, \d\.\d\d\]", row)
    assert float(after) > float(before)
    with page.expect_download(timeout=600_000) as download:
        page.click("#label-model")
    saved = tmp_path / "model.zip"
    download.value.save_as(saved)
    window.close()
    assert_plain_model(saved, tmp_path, cells)


def assert_plain_model(saved: Path, folder: Path, cells: dict[str, Path]) -> None:
    """Load the model without hf_wbc and classify cells whose labels it has not seen."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    with zipfile.ZipFile(saved) as archive:
        archive.extractall(folder)
    model = AutoModelForImageClassification.from_pretrained(folder / "model").eval()
    processor = AutoImageProcessor.from_pretrained(folder / "model")
    labeled = {answer.image_id for answer in read_answers(folder / "my_lab" / "labels.csv")}
    others = [path for name, path in cells.items() if name not in labeled]
    images = [Image.open(path).convert("RGB") for path in others]
    with torch.no_grad():
        found = model(**processor(images, return_tensors="pt")).logits.argmax(1).tolist()
    true = folder_labels([f"{path.parent.name}/x" for path in others], FOLDERS)
    merged = [
        NAMES.index("neutrophil_segmented") if NAMES[c] == "neutrophil_banded" else c for c in found
    ]
    assert sum(a == b for a, b in zip(merged, true, strict=True)) / len(true) > 0.7


def test_second_reader_and_suggestions_switch_work(page: Any, served: Served) -> None:
    """On drawn cells: a second reader sees the same cells, and kappa appears."""
    page.goto(served.url)
    page.get_by_role("tab", name="Label").click()
    page.set_input_files("#label-drop input[type=file]", drawn_cells())
    page.wait_for_selector(CARD)
    assert page.locator(CARD).count() == 10
    first = page.locator(CARD).first
    first.click()
    for key in "smlko":
        page.keyboard.press(key)
    wait_for(page, 3)
    page.locator("#label-suggest input").check()
    page.wait_for_selector(".review table.bars tr")
    page.locator("#label-suggest input").uncheck()
    page.wait_for_selector(CARD)
    field = page.locator("#label-reader").locator("input, textarea").first
    field.fill("CD")
    field.press("Enter")
    page.locator("#label-second input").check()
    page.wait_for_function("(s) => document.querySelectorAll(s).length === 5", arg=CARD)
    page.locator(CARD).first.click()
    for key in "smlb":
        page.keyboard.press(key)
    page.wait_for_selector("#label-status >> text=kappa")


def drawn_cells() -> list[dict[str, Any]]:
    """Return 24 drawn cells as files."""
    import io

    from PIL import Image

    from hf_wbc.app.examples import draw_slide

    files = []
    for picture in draw_slide()[0][:24]:
        data = io.BytesIO()
        Image.fromarray(picture.pixels).save(data, "PNG")
        files.append({"name": picture.name, "mimeType": "image/png", "buffer": data.getvalue()})
    return files
