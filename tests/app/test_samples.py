"""Several samples: a second drop asks first, a reload loses nothing, names stay in the browser."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from support import app_files as files
from support.app_predictions import prediction

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.samples import Samples
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.slide_html import compare_html
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.app.uploads import UploadedImage, Uploads

KEY = "0123456789abcdef" * 2
CELL = Uploads((UploadedImage("a.png", np.zeros((9, 9, 3), np.uint8)),))


def add(slide: Slide) -> Slide:
    return slide.added(CELL, LIMITS)


def test_sample_numbers_are_never_reused_and_one_sample_always_exists() -> None:
    samples = Samples()
    assert samples.begun() is samples  # an empty one is there already
    samples = samples.with_slide(add(Slide())).begun()
    assert (samples.current, list(samples.slides)) == (2, [1, 2])
    assert samples.opened(1).current == 1 and samples.opened(9) is samples
    samples = samples.discarded()
    assert list(samples.slides) == [1]
    samples = samples.discarded()
    assert list(samples.slides) == [3] and not samples.slide.every


def test_dropped_images_count_toward_memory_until_answered() -> None:
    samples = Samples().with_dropped(CELL)
    assert samples.num_bytes == 9 * 9 * 3
    assert samples.with_dropped(None).num_bytes == 0


def test_reloaded_page_recovers_its_samples() -> None:
    now = [0.0]
    sessions = Sessions(Limits(grace_seconds=10, idle_seconds=100), lambda: now[0])
    assert not sessions.adopt("first", KEY)
    sessions.change("first", add)
    assert sessions.adopt("second", KEY)
    sessions.leave("first")  # the old page says goodbye late
    now[0] = 50
    sessions.sweep()
    assert len(sessions.slide("second").every) == 1
    assert not sessions.adopt("stranger", KEY[::-1]) and not sessions.slide("stranger").every
    sessions.adopt("second", KEY)
    sessions.leave("second")
    now[0] = 61
    sessions.sweep()
    assert not sessions.slide("second").every and "deleted" in sessions.news("second")


@pytest.mark.parametrize("key", ["", "0" * 31, "0" * 33, "A" * 32, "../" * 11])
def test_weak_key_is_ignored(key: str) -> None:
    sessions = Sessions(LIMITS)
    sessions.adopt("a", key)
    sessions.change("a", add)
    assert not sessions.adopt("b", key)


def test_review_of_discarded_sample_changes_no_other() -> None:
    sessions = Sessions(LIMITS)
    sessions.change("a", add)
    sessions.change_samples("a", Samples.begun)
    sessions.change("a", add)
    sessions.change_samples("a", Samples.discarded)
    assert sessions.change("a", lambda it: it.reviewed({1: 0}), 2) == Slide()
    assert [one.corrected for one in sessions.slide("a").every] == [None]


def test_samples_with_white_cells_are_compared_side_by_side() -> None:
    predictor = SimpleNamespace(held_out=None, abstention=None)
    service = Service(PageModel.loaded("model", cast(Any, predictor)))
    monocytes, red = (
        Slide((SlideCell(1, CELL.pictures[0], prediction(**{kind: 1.0})),))
        for kind in ("monocyte", "erythroblast")
    )
    samples = Samples({1: monocytes, 2: red})
    assert compare_html(service, samples) == ""
    shown = compare_html(service, samples.with_slide(monocytes, 2))
    assert shown.count("data-sample-name") == 2 and shown.count("<td>100.0</td>") == 2


def drop(page: Any, uploads: dict[str, bytes]) -> None:
    kind = "application/octet-stream"
    given = [{"name": n, "mimeType": kind, "buffer": data} for n, data in uploads.items()]
    page.locator("#many-drop input[type=file]").set_input_files(given)


@pytest.mark.slow
@pytest.mark.ci
def test_named_reviewed_signed_sample_survives_reload(page: Any, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Many cells").click()
    page.locator("#many-toy").click()
    page.wait_for_selector(".review .card")
    page.locator("[data-name-of]").fill("Ward 7")
    page.locator("[data-reviewer]").fill("Dr. Weiß")
    page.locator(".review .card").first.click()
    for key in "xxllmmeeaatt":
        page.keyboard.press(key)
    page.locator("[data-sign]").check()
    page.wait_for_selector("[data-signature] >> text=Signed by Dr. Weiß")
    with page.expect_download() as download:
        page.locator("#many-pdf").click()
    assert download.value.suggested_filename == "Ward_7.pdf"
    download.value.save_as(tmp_path / "report.pdf")
    pypdf = pytest.importorskip("pypdf", reason="reading a PDF needs the extra test")
    first = pypdf.PdfReader(tmp_path / "report.pdf").pages[0].extract_text()
    assert "Ward 7" in first and "Signed by Dr. Weiß" in first
    reviewed = page.locator("[data-progress]").inner_text()
    assert f"{reviewed.split()[0]} of 100 cells reviewed" in first

    page.reload()
    page.get_by_role("tab", name="Many cells").click()
    page.wait_for_selector(".review .card")
    assert page.locator("[data-progress]").inner_text() == reviewed
    assert page.locator(".sample [data-sample-name]").inner_text() == "Ward 7"
    page.locator("[data-action=undo]").click()
    assert page.locator("[data-progress]").inner_text() != reviewed
    page.wait_for_selector("[data-signature] >> text=Not signed")  # the review has changed

    drop(page, {"1.png": files.encoded(), "2.png": files.encoded(seed=5)})
    page.wait_for_selector("#many-ask >> text=2 new images")
    assert "Ward 7" in page.locator("#many-ask").inner_text()
    page.locator("#many-new").click()
    page.wait_for_selector(".samples >> text=2 cells")
    assert page.locator(".review .card").count() == 2
    page.locator(".sample", has_text="Ward 7").click()
    page.wait_for_function("document.querySelectorAll('.review .card').length === 100")
    page.locator("#many-over").click()
    page.locator("#many-keep").click()
    assert page.locator(".review .card").count() == 100
    page.locator("#many-over").click()
    page.locator("#many-discard").click()
    page.wait_for_function("document.querySelectorAll('.review .card').length === 2")
    assert "Ward 7" not in page.evaluate("sessionStorage.getItem('wbc-samples')")
