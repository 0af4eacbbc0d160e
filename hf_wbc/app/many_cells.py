"""The tab for samples: a gallery of cells to review, the differential count, and downloads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gradio as gr

from hf_wbc.app.components import (
    busy,
    error_message,
    file_drop_box,
    folder_button,
    scale_field,
)
from hf_wbc.app.downloads import (
    write_csv_download,
    write_fhir_download,
    write_html_download,
    write_json_download,
    write_pdf_download,
)
from hf_wbc.app.examples import draw_slide
from hf_wbc.app.field_view import slide_fields_html
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.review_gallery import (
    acknowledge,
    review_gallery,
    review_labels,
    saved_review,
    zoom_channel,
)
from hf_wbc.app.sample_report import ReportFacts, report_facts
from hf_wbc.app.samples import Samples
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_html import (
    REVIEW_LABELS,
    common_warnings,
    compare_html,
    count_html,
    review_html,
    zoom_html,
)
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, Uploads

WELCOME = (
    "Drop the images of a sample, fields of view or single white cells: files, a zip, or a TIFF "
    "with several pages. The page finds, names and counts the cells and shows them for you to "
    "review and correct."
)
SAVE = "(file) => { if (file) window.wbcSave(file); return null; }"
FACTS = "() => [window.wbcReportFacts()]"
TAB_KEY = "() => [window.wbcTabKey()]"
SKIP = gr.skip()
Maker = Callable[[Service, Slide, ReportFacts], dict[str, str]]
DOWNLOADS: tuple[tuple[str, str, Literal["primary", "secondary"], Maker], ...] = (
    ("Report (PDF)", "many-pdf", "primary", write_pdf_download),
    ("Report to print (HTML)", "many-report", "secondary", write_html_download),
    ("Cells (CSV)", "many-csv", "secondary", write_csv_download),
    ("All values (JSON)", "many-json", "secondary", write_json_download),
    ("FHIR (JSON)", "many-fhir", "secondary", write_fhir_download),
)
"""Title, id, variant and maker of each download."""


class Shown(NamedTuple):
    """What a handler changes on the tab, in the order of the outputs; by default nothing."""

    samples: Any = SKIP
    ask_added: Any = SKIP
    """The question what to do with images that were dropped on a sample with cells."""
    ask_row: Any = SKIP
    discard_row: Any = SKIP
    status: Any = SKIP
    count: Any = SKIP
    cells: Any = SKIP
    keep: Any = SKIP
    """The row of downloads."""
    go_on: Any = SKIP


def many_cells_tab(page: Any, service: Service, sessions: Sessions) -> None:
    """Add the tab's components and events to the current blocks, which are `page`."""
    tab = ManyCells(service, sessions)
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
                over = gr.Button("Discard this sample", size="sm", elem_id="many-over")
    samples = gr.HTML("", elem_id="many-samples", js_on_load=script("samples_load.js"))
    questions = _questions()
    status = gr.HTML(notice(WELCOME), elem_id="many-status", js_on_load=script("live.js"))
    go_on = gr.Button("Continue", visible=False, variant="primary", elem_id="many-go-on")
    count = gr.HTML("", elem_id="many-count")
    cells = review_gallery("many-cells")
    zoomed = zoom_channel("many-zoomed")
    keep, makers = _downloads()
    facts, kept = gr.JSON(visible=False), gr.JSON(visible=False)
    dialogs = (questions.added, questions.row, questions.discard_row)
    shown = list(Shown(samples, *dialogs, status, count, cells, keep, go_on))
    drop.upload(tab.take, [drop, scale.text], [*shown, drop], **busy("/many", status))
    folder.upload(tab.take, [folder, scale.text], [*shown, folder], **busy("/many_folder", status))
    toy.click(tab.toy, None, [scale.text, scale.used, *shown], **busy("/many_toy", status))
    scale.on_change(tab.rescale, shown, "/many_scale", status)
    for button, answer in (
        (go_on, tab.again), (questions.add, tab.add), (questions.new, tab.add_to_new),
    ):  # fmt: skip
        button.click(answer, [scale.text], shown, **busy(f"/many_{answer.__name__}", status))
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    quick = {**hidden, "queue": False}
    for button, handler in (
        (over, tab.ask_discard), (questions.discard, tab.discard),
        (questions.keep, tab.keep_sample), (questions.cancel, tab.leave_out),
    ):  # fmt: skip
        button.click(handler, None, shown, **quick)
    samples.choose(tab.choose, None, shown, **quick)
    samples.begin(tab.begin, None, shown, **quick)
    cells.zoom(tab.zoom, None, [zoomed], **quick)
    # Handle all messages in order: by default Gradio drops those that come while it handles one.
    in_turn = {"concurrency_id": "review", "concurrency_limit": 1, "trigger_mode": "multiple"}
    cells.save(tab.save, None, shown, **hidden, **in_turn)
    for button, make in makers.items():
        outputs = [kept, *shown]
        made = button.click(
            tab.keep(make), [facts], outputs, js=FACTS, **busy(f"/many_{make.__name__}", keep)
        )
        made.then(None, [kept], [kept], js=SAVE, api_visibility="private")
    page.load(tab.restore, [facts], shown, js=TAB_KEY, **quick)


class _Questions(NamedTuple):
    """The rows that ask a person before images are added or a sample is deleted."""

    added: Any
    row: Any
    add: Any
    new: Any
    cancel: Any
    discard_row: Any
    discard: Any
    keep: Any


def _questions() -> _Questions:
    with gr.Row(visible=False, elem_id="many-ask") as row:
        added = gr.HTML("", min_width=300, js_on_load=script("live.js"))
        add = gr.Button("Add to this sample", size="sm", variant="primary", elem_id="many-add")
        new = gr.Button("New sample", size="sm", elem_id="many-new")
        cancel = gr.Button("Leave them out", size="sm", elem_id="many-cancel")
    with gr.Row(visible=False, elem_id="many-ask-discard") as discard_row:
        gr.HTML(fragment("ask_discard.html", {}), min_width=300)
        discard = gr.Button("Discard", size="sm", variant="stop", elem_id="many-discard")
        keep = gr.Button("Keep the sample", size="sm", elem_id="many-keep")
    return _Questions(added, row, add, new, cancel, discard_row, discard, keep)


def _downloads() -> tuple[Any, dict[Any, Maker]]:
    """Add the panel to sign and download; returns it, and the maker of each button's file."""
    with gr.Column(visible=False, elem_id="many-report-panel") as panel:
        gr.HTML(fragment("sign.html", {}))
        with gr.Row():
            return panel, {
                gr.Button(title, size="sm", min_width=120, elem_id=elem_id, variant=kind): make
                for title, elem_id, kind, make in DOWNLOADS
            }


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
    ) -> tuple[Any, ...]:
        """Predict uploaded files, or ask where they belong; clear the upload box."""
        uploads, who = self.service.take(files), visitor_id(request)
        if not uploads.pictures or not self.sessions.slide(who).every:
            return *self._read(who, uploads, scale_text, progress), None
        shown = Shown()
        with error_message() as failed:
            sample = self.sessions.change_samples(who, lambda it: it.with_dropped(uploads)).current
            text = fragment("ask_added.html", {"num": len(uploads.pictures), "sample": sample})
            shown = Shown(ask_added=text, ask_row=gr.Row(visible=True))
        return *(Shown(status=failed.html) if failed.html else shown), None

    def add(
        self,
        scale_text: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Predict the dropped images as a part of the current sample."""
        who = visitor_id(request)
        uploads = self.sessions.samples(who).dropped
        self.sessions.change_samples(who, lambda it: it.with_dropped(None))
        return self._read(who, uploads or Uploads(), scale_text, progress)

    def add_to_new(
        self,
        scale_text: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Predict the dropped images as a sample of their own."""
        self.sessions.change_samples(visitor_id(request), Samples.begun)
        return self.add(scale_text, request, progress)

    def leave_out(self, request: gr.Request) -> Shown:
        """Forget the dropped images."""
        self.sessions.change_samples(visitor_id(request), lambda it: it.with_dropped(None))
        return Shown(ask_row=gr.Row(visible=False))

    def again(
        self,
        scale_text: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Predict the pending cells."""
        return self._read(visitor_id(request), Uploads(), scale_text, progress)

    def rescale(self, scale_text: str, request: gr.Request, progress: gr.Progress) -> Shown:
        """Predict the sample at another scale."""
        who = visitor_id(request)
        if not self.sessions.slide(who).every:
            gone = self.sessions.news(who)
            return self._shown(who, gone=gone) if gone else Shown()
        return self.again(scale_text, request, progress)

    def toy(
        self,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Draw a slide and predict it, as a sample of its own."""
        self.service.wait()
        progress(0, "drawing")
        pictures, um_per_px = draw_slide()
        scale, who = f"{um_per_px:.4g} µm/px", visitor_id(request)
        self.sessions.change_samples(who, Samples.begun)
        return scale, scale, *self._read(who, Uploads(pictures), scale, progress)

    def ask_discard(self, request: gr.Request) -> Shown:
        """Ask before a sample with cells is deleted."""
        if self.sessions.slide(visitor_id(request)).every:
            return Shown(discard_row=gr.Row(visible=True))
        return self.discard(request)

    def discard(self, request: gr.Request) -> Shown:
        """Delete the current sample."""
        who = visitor_id(request)
        self.sessions.change_samples(who, Samples.discarded)
        return self._shown(who)

    def keep_sample(self) -> Shown:
        """Do not delete the sample after all."""
        return Shown(discard_row=gr.Row(visible=False))

    def choose(self, request: gr.Request, event: gr.EventData) -> Shown:
        """Show another sample."""
        who, number = visitor_id(request), event.sample
        self.sessions.change_samples(who, lambda it: it.opened(number))
        return self._shown(who)

    def begin(self, request: gr.Request) -> Shown:
        """Begin a sample."""
        who = visitor_id(request)
        self.sessions.change_samples(who, Samples.begun)
        return self._shown(who)

    def restore(self, key: Any, request: gr.Request) -> Shown:
        """Show the samples again that the same browser tab had before it was reloaded."""
        who = visitor_id(request)
        return self._shown(who) if self.sessions.adopt(who, str(key)) else Shown()

    def save(self, request: gr.Request, event: gr.EventData) -> Shown:
        """Store what a person changed; the gallery already shows it."""
        who = visitor_id(request)
        shown = Shown()
        with error_message() as failed:
            review = saved_review(event, REVIEW_LABELS)
            self.sessions.change(who, lambda it: it.reviewed(review.labels), review.sample)
            shown = self._counted(who, acknowledge(review))
        return Shown(status=failed.html) if failed.html else shown

    def zoom(self, request: gr.Request, event: gr.EventData) -> Any:
        """Render one cell larger, with what lies around it."""
        slide = self.sessions.samples(visitor_id(request)).slides.get(event.sample, Slide())
        found = next((case for case in slide.cases if case.number == event.number), None)
        return gr.skip() if found is None else zoom_html(found, event.sample)

    def keep(self, make: Maker) -> Callable[..., tuple[Any, ...]]:
        """Return the event handler of a download button."""

        def made(facts: Mapping[str, Any], request: gr.Request) -> tuple[Any, ...]:
            who, file, shown = visitor_id(request), None, Shown()
            with error_message() as failed:
                labels = review_labels(facts.get("labels", {}), REVIEW_LABELS)
                # What the browser has not saved yet belongs to the sample that it shows.
                self.sessions.change(who, lambda it: it.reviewed(labels), facts.get("sample"))
                slide = self.sessions.slide(who)
                if slide.every:
                    facts_shown = report_facts(facts, self.sessions.samples(who).current)
                    file = make(self.service, slide, facts_shown)
                else:
                    shown = self._gone(who)
            return file, *(Shown(status=failed.html) if failed.html else shown)

        return made

    def _read(self, who: str, uploads: Uploads, scale_text: str, progress: gr.Progress) -> Shown:
        """Add images to the current sample, predict what is pending, and render the tab."""

        def report(done: int, total: int) -> None:
            progress((done, total), "predicting cells", unit="cells")

        gone, sample = self.sessions.news(who), self.sessions.samples(who).current
        with self.sessions.reading(who), error_message() as failed:
            slide = self.sessions.change(
                who, lambda it: it.added(uploads, self.service.limits), sample
            )
            reading = self.service.read(slide, self.service.scale(scale_text), report)
            # What a person reviewed in the meantime is in the sample.
            self.sessions.change(who, lambda it: it.answered(reading), sample)
        return self._shown(who, failed.html, gone)

    def _counted(self, who: str, saved: str) -> Shown:
        """Render the counts after a change, with what tells the browser that it is saved."""
        samples = self.sessions.samples(who)
        if not any(slide.every for slide in samples.slides.values()):
            return self._gone(who)
        count = count_html(self.service, samples.slide) if samples.slide.cases else ""
        return Shown(count=count + compare_html(self.service, samples) + saved)

    def _gone(self, who: str) -> Shown:
        """Render the tab for a visitor whose samples were deleted."""
        return self._shown(who, gone=self.sessions.news(who))

    def _shown(self, who: str, failed: str = "", gone: str = "") -> Shown:
        """Render the whole tab."""
        samples = self.sessions.samples(who)
        slide, is_in_use = samples.slide, len(samples.slides) > 1 or bool(samples.slide.every)
        before = notice(f"{gone}.", "warning") if gone else ""
        is_new = not slide.every and not slide.refused and not failed and not gone
        status = fragment(
            "status.html",
            {"slide": slide, "is_said": bool(failed or gone), "common": common_warnings(slide)},
        )
        num_left = len(slide.waiting)
        count = count_html(self.service, slide) if slide.cases else ""
        return Shown(
            samples=fragment("samples.html", {"samples": samples}) if is_in_use else "",
            ask_row=gr.Row(visible=samples.dropped is not None),
            discard_row=gr.Row(visible=False),
            status=notice(WELCOME)
            if is_new
            else before + failed + status + slide_fields_html(slide),
            count=count + compare_html(self.service, samples),
            cells=review_html(self.service, slide, samples.current) if slide.cases else "",
            keep=gr.Column(visible=bool(slide.every)),
            go_on=gr.Button(f"Continue with the other {num_left:,}", visible=num_left > 0),
        )
