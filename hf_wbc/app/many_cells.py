"""The tab for a slide: a table of cells to correct, the differential count, and downloads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hf_wbc.app.components import (
    busy,
    error_message,
    file_drop_box,
    folder_button,
    scale_field,
)
from hf_wbc.app.downloads import write_csv_download, write_report_download
from hf_wbc.app.examples import draw_slide
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.page_text import is_outside
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_html import cells_html, count_html
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, Uploads
from hf_wbc.taxonomy import NUM_CLASSES

WELCOME = (
    "Drop the images of a slide's white cells, one cell per image: files, a zip, or a TIFF with "
    "several pages. The page names and counts them and lists them for you to review and correct."
)
UNDECIDED = ""
SAVE = "(file) => { if (file) window.wbcSave(file); return null; }"
Shown = tuple[Any, ...]
"""Status, count, cells, the row of downloads, and the button that continues."""


def many_cells_tab(service: Service, sessions: Sessions) -> None:
    """Add the tab's components and events to the current blocks."""
    with gr.Row(equal_height=False):
        drop = file_drop_box(
            "Images, a zip or a TIFF",
            file_count="multiple",
            height=170,
            elem_id="many-drop",
            scale=2,
        )
        with gr.Column(scale=2, min_width=300):
            scale = scale_field(service, "all images", "many-scale")
            with gr.Row():
                folder = folder_button("Choose a folder", size="sm", elem_id="many-folder")
                toy = gr.Button("Try a drawn slide", size="sm", elem_id="many-toy")
                over = gr.Button("Start over", size="sm", elem_id="many-over")
    status = gr.HTML(notice(WELCOME), elem_id="many-status", js_on_load=script("live.js"))
    go_on = gr.Button("Continue", visible=False, variant="primary", elem_id="many-go-on")
    count = gr.HTML("", elem_id="many-count")
    with gr.Row(visible=False) as keep:
        as_csv = gr.Button("Download the table (CSV)", size="sm", elem_id="many-csv")
        as_report = gr.Button("Download a report to print", size="sm", elem_id="many-report")
    cells = gr.HTML("", elem_id="many-cells", js_on_load=script("correct.js"))
    kept = gr.JSON(visible=False)
    shown = [status, count, cells, keep, go_on]
    tab = ManyCells(service, sessions)
    drop.upload(tab.take, [drop, scale.text], [*shown, drop], **busy("/many"))
    folder.upload(tab.take, [folder, scale.text], [*shown, folder], **busy("/many_folder"))
    toy.click(tab.toy, None, [scale.text, scale.used, *shown], **busy("/many_toy"))
    scale.on_change(tab.rescale, shown, "/many_scale")
    go_on.click(tab.again, [scale.text], shown, **busy("/many_go_on"))
    over.click(tab.start_over, None, shown, api_visibility="private", queue=False)
    # Handle all corrections in order: by default Gradio drops clicks while it handles one.
    in_turn = {"concurrency_id": "correct", "concurrency_limit": 1, "trigger_mode": "multiple"}
    cells.correct(tab.correct, None, shown, **{**busy("/many_correct"), **in_turn})
    for button, make in ((as_csv, write_csv_download), (as_report, write_report_download)):
        made = button.click(tab.keep(make), None, [kept, *shown], **busy(f"/many_{make.__name__}"))
        made.then(None, [kept], [kept], js=SAVE, api_visibility="private")


@dataclass(frozen=True)
class ManyCells:
    """The tab's event handlers; Gradio's request identifies the visitor."""

    service: Service
    sessions: Sessions

    def take(
        self,
        files: Sequence[UploadedFile],
        scale_text: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio recognizes it by its default)
    ) -> Shown:
        """Predict uploaded files and clear the upload box."""
        uploads = self.service.take(files)
        return *self._read(visitor_id(request), uploads, scale_text, progress), None

    def again(
        self,
        scale_text: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Predict the pending cells."""
        return self._read(visitor_id(request), Uploads(), scale_text, progress)

    def rescale(self, scale_text: str, request: gr.Request, progress: gr.Progress) -> Shown:
        """Predict the slide at another scale."""
        who = visitor_id(request)
        if not self.sessions.slide(who).every:
            gone = self.sessions.news(who)
            return self._shown(Slide(), "", gone) if gone else (gr.skip(),) * 5
        return self.again(scale_text, request, progress)

    def toy(
        self,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Replace the slide with a drawn one and predict it."""
        self.service.wait()
        progress(0, "drawing")
        pictures, um_per_px = draw_slide()
        scale = f"{um_per_px:.4g} µm/px"
        self.start_over(request)
        return scale, scale, *self._read(visitor_id(request), Uploads(pictures), scale, progress)

    def start_over(self, request: gr.Request) -> Shown:
        """Delete the slide."""
        self.sessions.change(visitor_id(request), lambda slide: Slide())
        return notice(WELCOME), "", "", gr.Row(visible=False), gr.Button(visible=False)

    def correct(self, request: gr.Request, event: gr.EventData) -> Shown:
        """Store a person's class for one cell; the table already shows it."""
        number, value = int(event.number), str(event.label)
        label = None if value == UNDECIDED else int(value)
        if label is not None and not is_outside(label) and not 0 <= label < NUM_CLASSES:
            return (gr.skip(),) * 5
        who = visitor_id(request)
        slide = self.sessions.change(who, lambda slide: slide.corrected(number, label))
        if not slide.every:
            return self._gone(who)
        return gr.skip(), count_html(self.service, slide), *(gr.skip(),) * 3

    def keep(self, make: Callable[[Service, Slide], dict[str, str]]) -> Callable[..., Shown]:
        """Return the event handler of a download button."""

        def made(request: gr.Request) -> Shown:
            who = visitor_id(request)
            slide = self.sessions.slide(who)
            if not slide.every:
                return None, *self._gone(who)
            return make(self.service, slide), *(gr.skip(),) * 5

        return made

    def _read(self, who: str, uploads: Uploads, scale_text: str, progress: gr.Progress) -> Shown:
        """Add images to the slide, predict what is pending, and render the tab."""

        def report(done: int, total: int) -> None:
            progress((done, total), "predicting cells", unit="cells")

        gone = self.sessions.news(who)
        with self.sessions.reading(who), error_message() as failed:
            slide = self.sessions.change(who, lambda it: it.added(uploads, self.service.limits))
            reading = self.service.read(slide, self.service.scale(scale_text), report)
            # Corrections made in the meantime are in the current slide.
            self.sessions.change(who, lambda it: it.answered(reading))
        return self._shown(self.sessions.slide(who), failed.html, gone)

    def _gone(self, who: str) -> Shown:
        """Render the tab for a visitor whose slide was deleted."""
        return self._shown(Slide(), "", self.sessions.news(who))

    def _shown(self, slide: Slide, failed: str, gone: str) -> Shown:
        before = notice(f"{gone}.", "warning") if gone else ""
        status = fragment("status.html", {"slide": slide, "is_said": bool(failed or gone)})
        num_left = len(slide.waiting)
        more = gr.Button(f"Continue with the other {num_left:,}", visible=num_left > 0)
        if not slide.cases:
            return before + failed + status, "", "", gr.Row(visible=bool(num_left)), more
        count, cells = count_html(self.service, slide), cells_html(self.service, slide)
        return before + failed + status, count, cells, gr.Row(visible=True), more
