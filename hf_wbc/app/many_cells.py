"""The tab for a slide: cells in a table that a person corrects, their count, and what to keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hf_wbc.app.components import busy, error_message, file_drop_box, folder_button, scale_box
from hf_wbc.app.downloads import write_csv_download, write_report_download
from hf_wbc.app.examples import draw_slide
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.page_text import OUTSIDE
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_html import cells_html, count_html
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, Uploads
from hf_wbc.taxonomy import NUM_CLASSES

WELCOME = (
    "Drop the images of a slide's white cells, one cell in each: files, a zip, or a TIFF of "
    "several pages. They are named, counted, and listed for you to look through and correct."
)
UNDECIDED = ""
SAVE = "(file) => { if (file) window.wbcSave(file); return null; }"
Shown = tuple[Any, ...]
"""Status, count, cells, the row of downloads, and the button that goes on."""


def many_cells_tab(desk: Service, sessions: Sessions) -> None:
    """Put the tab's components and events into the open blocks."""
    with gr.Row(equal_height=False):
        drop = file_drop_box(
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
    go_on = gr.Button("Go on", visible=False, variant="primary", elem_id="many-go-on")
    count = gr.HTML("", elem_id="many-count")
    with gr.Row(visible=False) as keep:
        as_csv = gr.Button("Download the table (CSV)", size="sm", elem_id="many-csv")
        as_report = gr.Button("Download a report to print", size="sm", elem_id="many-report")
    cells = gr.HTML("", elem_id="many-cells", js_on_load=script("correct.js"))
    kept = gr.JSON(visible=False)
    shown = [status, count, cells, keep, go_on]
    tab = ManyCells(desk, sessions)
    drop.upload(tab.take, [drop, scale], [*shown, drop], **busy("/many"))
    folder.upload(tab.take, [folder, scale], [*shown, folder], **busy("/many_folder"))
    toy.click(tab.toy, None, [scale, *shown], **busy("/many_toy"))
    scale.input(tab.again, [scale], shown, **busy("/many_scale"))
    go_on.click(tab.again, [scale], shown, **busy("/many_go_on"))
    over.click(tab.start_over, None, shown, api_visibility="private", queue=False)
    # All are kept, in the clicks' order: by default Gradio drops what comes while one is done.
    in_turn = {"concurrency_id": "correct", "concurrency_limit": 1, "trigger_mode": "multiple"}
    cells.correct(tab.correct, None, shown, **{**busy("/many_correct"), **in_turn})
    for button, make in ((as_csv, write_csv_download), (as_report, write_report_download)):
        made = button.click(tab.keep(make), None, [kept, *shown], **busy(f"/many_{make.__name__}"))
        made.then(None, [kept], [kept], js=SAVE, api_visibility="private")


@dataclass(frozen=True)
class ManyCells:
    """What the tab does, for a visitor whom Gradio's request names."""

    desk: Service
    sessions: Sessions

    def take(
        self,
        given: Sequence[UploadedFile],
        said: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> Shown:
        """Read dropped files; the box is empty again."""
        uploads = self.desk.take(given)
        return *self._read(visitor_id(request), uploads, said, progress), None

    def again(
        self,
        said: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Read the slide at another scale, or what is left of it."""
        return self._read(visitor_id(request), Uploads(), said, progress)

    def toy(
        self,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Read a drawn slide in the place of what was there."""
        self.desk.wait()
        progress(0, "drawing")
        pictures, um_per_px = draw_slide()
        said = f"{um_per_px:.4g}"
        self.start_over(request)
        return said, *self._read(visitor_id(request), Uploads(pictures), said, progress)

    def start_over(self, request: gr.Request) -> Shown:
        """Forget the slide."""
        self.sessions.change(visitor_id(request), lambda slide: Slide())
        return notice(WELCOME), "", "", gr.Row(visible=False), gr.Button(visible=False)

    def correct(self, request: gr.Request, event: gr.EventData) -> Shown:
        """A person's class for one cell; the table shows it already."""
        number, said = int(event.number), str(event.label)
        label = None if said == UNDECIDED else int(said)
        if label is not None and label != OUTSIDE and not 0 <= label < NUM_CLASSES:
            return (gr.skip(),) * 5
        who = visitor_id(request)
        slide = self.sessions.change(who, lambda slide: slide.corrected(number, label))
        if not slide.every:
            return self._gone(who)
        return gr.skip(), count_html(self.desk, slide), *(gr.skip(),) * 3

    def keep(self, make: Callable[[Service, Slide], dict[str, str]]) -> Callable[..., Shown]:
        """A download; the event of its button."""

        def made(request: gr.Request) -> Shown:
            who = visitor_id(request)
            slide = self.sessions.slide(who)
            if not slide.every:
                return None, *self._gone(who)
            return make(self.desk, slide), *(gr.skip(),) * 5

        return made

    def _read(self, who: str, uploads: Uploads, said: str, progress: gr.Progress) -> Shown:
        """What the tab shows of the slide with more pictures at a scale."""

        def report(done: int, total: int) -> None:
            progress((done, total), "reading cells", unit="cells")

        gone = self.sessions.news(who)
        with self.sessions.reading(who), error_message() as failed:
            slide = self.sessions.change(who, lambda it: it.added(uploads, self.desk.limits))
            reading = self.desk.read(slide, self.desk.scale(said), report)
            # What a person said, or took back, in the meantime is in the slide as it is now.
            self.sessions.change(who, lambda it: it.answered(reading))
        return self._shown(self.sessions.slide(who), failed.html, gone)

    def _gone(self, who: str) -> Shown:
        """The tab of a visitor whose slide is not here any more."""
        return self._shown(Slide(), "", self.sessions.news(who))

    def _shown(self, slide: Slide, failed: str, gone: str) -> Shown:
        before = notice(f"{gone}.", "warning") if gone else ""
        status = fragment("status.html", {"slide": slide, "is_said": bool(failed or gone)})
        num_left = len(slide.waiting)
        more = gr.Button(f"Go on: read the other {num_left:,}", visible=num_left > 0)
        if not slide.cases:
            return before + failed + status, "", "", gr.Row(visible=bool(num_left)), more
        count, cells = count_html(self.desk, slide), cells_html(self.desk, slide)
        return before + failed + status, count, cells, gr.Row(visible=True), more
