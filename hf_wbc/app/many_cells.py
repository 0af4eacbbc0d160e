"""The tab for a slide: cells in a table that a person corrects, their count, and what to keep."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from hf_wbc.app.count import count_of
from hf_wbc.app.desk import Desk, Slide
from hf_wbc.app.drop import drop_box, folder_button
from hf_wbc.app.events import busy, scale_box, sentence_for
from hf_wbc.app.examples import draw_slide
from hf_wbc.app.fragments import fragment, notice, script
from hf_wbc.app.keep import csv_file, report_file
from hf_wbc.app.slide_html import cells_html, count_html
from hf_wbc.app.uploads import Given, Uploads
from hf_wbc.app.words import OUTSIDE
from hf_wbc.taxonomy import NUM_CLASSES

WELCOME = (
    "Drop the images of a slide's white cells, one cell in each: files, a zip, or a TIFF of "
    "several pages. They are named, counted, and listed for you to look through and correct."
)
UNDECIDED = ""


def many_cells_tab(desk: Desk, slide: Any) -> None:
    """Put the tab's components and events into the open blocks."""
    with gr.Row(equal_height=False):
        drop = drop_box(
            "Images, a zip or a TIFF",
            file_count="multiple",
            height=170,
            elem_id="many-drop",
            scale=2,
        )
        with gr.Column(scale=2, min_width=300):
            scale = scale_box(desk, "many-scale")
            with gr.Row():
                folder = folder_button("Choose a folder", size="sm", elem_id="many-folder")
                toy = gr.Button("Read a drawn slide", size="sm", elem_id="many-toy")
                over = gr.Button("Start over", size="sm", elem_id="many-over")
    status = gr.HTML(notice(WELCOME), elem_id="many-status", js_on_load=script("live.js"))
    count = gr.HTML("", elem_id="many-count")
    with gr.Row(visible=False) as keep:
        as_csv = gr.Button("Download the table (CSV)", size="sm", elem_id="many-csv")
        as_report = gr.Button("Download a report to print", size="sm", elem_id="many-report")
    cells = gr.HTML("", elem_id="many-cells", js_on_load=script("correct.js"))
    kept = gr.JSON(visible=False)
    shown = [slide, status, count, cells, keep]
    take = partial(_take, desk)
    drop.upload(take, [drop, scale, slide], [*shown, drop], **busy("/many"))
    folder.upload(take, [folder, scale, slide], [*shown, folder], **busy("/many_folder"))
    toy.click(partial(_toy, desk), [slide], [scale, *shown], **busy("/many_toy"))
    scale.input(partial(_again, desk), [scale, slide], shown, **busy("/many_scale"))
    over.click(_start_over, None, shown, api_visibility="private", queue=False)

    def correct(slide: Slide, event: gr.EventData) -> tuple[Any, ...]:  # Gradio reads the hints
        return _correct(desk, slide, event)

    # All are kept, in the clicks' order: by default Gradio drops what comes while one is done.
    in_turn = {"concurrency_id": "correct", "concurrency_limit": 1, "trigger_mode": "multiple"}
    cells.correct(correct, [slide], [slide, count], **{**busy("/many_correct"), **in_turn})
    save = "(file) => { if (file) window.wbcSave(file); return null; }"
    for button, make in ((as_csv, csv_file), (as_report, report_file)):
        made = button.click(partial(make, desk), [slide], [kept], **busy(f"/many_{make.__name__}"))
        made.then(None, [kept], [kept], js=save, api_visibility="private")


def _take(
    desk: Desk,
    given: Sequence[Given],
    said: str,
    slide: Slide,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
) -> tuple[Any, ...]:
    uploads = desk.take(given)
    return *_read(desk, slide, uploads, said, progress), None


def _again(
    desk: Desk,
    said: str,
    slide: Slide,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Any, ...]:
    if not slide.cases:
        return (gr.skip(),) * 5
    return _read(desk, slide, Uploads(), said, progress)


def _toy(
    desk: Desk,
    slide: Slide,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Any, ...]:
    progress(0, "drawing")
    pictures, um_per_px = draw_slide()
    said = f"{um_per_px:.4g}"
    return said, *_read(desk, Slide(), Uploads(pictures), said, progress)


def _start_over() -> tuple[Any, ...]:
    return Slide(), notice(WELCOME), "", "", gr.Row(visible=False)


def _read(
    desk: Desk, before: Slide, uploads: Uploads, said: str, progress: gr.Progress
) -> tuple[Any, ...]:
    """What the tab shows of the slide with more pictures at a scale."""

    def report(done: int, total: int) -> None:
        progress((done, total), "reading cells", unit="cells")

    with sentence_for() as failed:
        slide = desk.slide(before, uploads, desk.scale(said), report)
    if failed.html:
        return before, failed.html, gr.skip(), gr.skip(), gr.skip()
    status = fragment("status.html", {"slide": slide, "guessed": _guessed(slide)})
    return slide, status, *_shown(desk, slide)


def _shown(desk: Desk, slide: Slide) -> tuple[Any, ...]:
    if not slide.cases:
        return "", "", gr.Row(visible=False)
    return count_html(count_of(desk, slide)), cells_html(desk, slide), gr.Row(visible=True)


def _correct(desk: Desk, slide: Slide, event: gr.EventData) -> tuple[Any, ...]:
    """A person's class for one cell; the table shows it already."""
    number, said = int(event.number), str(event.label)
    label = None if said == UNDECIDED else int(said)
    if label is not None and label != OUTSIDE and not 0 <= label < NUM_CLASSES:
        return gr.skip(), gr.skip()
    slide = slide.corrected(number, label)
    return slide, count_html(count_of(desk, slide))


def _guessed(slide: Slide) -> float | None:
    """The scale that was guessed for all cells."""
    if not slide.cases or not slide.cases[0].answer.scale_guessed:
        return None
    return slide.cases[0].answer.um_per_px
