"""The tab for labeling: choose cells, name them, adapt the model, and see what that brought."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from hf_wbc.app.components import busy, error_message, file_drop_box, folder_button
from hf_wbc.app.html_fragments import CARD_PX, SQUARE_PX, fragment, notice, picture_uri, script
from hf_wbc.app.laboratory import Laboratory, label_id, open_laboratory
from hf_wbc.app.many_cells import SAVE, TAB_KEY
from hf_wbc.app.review_gallery import (
    OpenGroup,
    ReviewCell,
    ReviewClass,
    acknowledge,
    gallery_html,
    review_gallery,
    saved_review,
    zoom_channel,
)
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_html import MOST_TOP, REVIEW_CLASSES, reference_images
from hf_wbc.app.uploads import UploadedFile
from hf_wbc.data.labels_file import OTHER, SKIP

WELCOME = (
    "Drop images of single cells of your laboratory, some hundred of them, without any names. The "
    "page chooses the cells that teach the model most; you name them with one key each. After 25 "
    "to 50 cells, adapt the model and see what that brought."
)
KEPT_BELOW = "Every answer is written to {path} at once."
KEPT_HERE = (
    "Answers stay in the memory of this page. Download them, or start the page with `hf-wbc demo "
    "--labels my_lab/labels.csv`, which writes every answer to that file at once."
)
OPEN = OpenGroup("to name", "Press the key of its class; o is none of these, k skips it.")
LABEL_CLASSES = (
    *(each for each in REVIEW_CLASSES if each.is_counted),
    ReviewClass(label_id(OTHER), "not one of these", "o", is_counted=False),
    ReviewClass(label_id(SKIP), "skip", "k", is_counted=False),
)
"""The eleven classes in clinical order, none of them, and skip."""
LABEL_IDS = frozenset(each.id for each in LABEL_CLASSES)
NO_CLASS = -100
"""Proposed class of a cell whose suggestion is hidden."""
SKIPPED = gr.skip()


class Shown(NamedTuple):
    """What a handler changes on the tab, in the order of the outputs; by default nothing."""

    status: Any = SKIPPED
    cells: Any = SKIPPED
    report: Any = SKIPPED
    panel: Any = SKIPPED
    """The row of switches and buttons."""


def label_tab(page: Any, service: Service, sessions: Sessions) -> None:
    """Add the tab's components and events to the current blocks, which are `page`."""
    tab = LabelTab(service, sessions)
    with gr.Row(equal_height=False):
        drop = file_drop_box(
            "Images of single cells, or a zip", file_count="multiple", height=150,
            elem_id="label-drop", scale=2,
        )  # fmt: skip
        with gr.Column(scale=2, min_width=300):
            scale = gr.Textbox(
                "", label="Scale, µm per pixel; leave it empty if each image is cropped to a cell",
                placeholder="each image is cropped around one cell", max_lines=1,
                elem_id="label-scale",
            )  # fmt: skip
            merges = gr.Checkbox(
                True, label="Score banded and segmented neutrophils as one class",
                elem_id="label-merge",
            )  # fmt: skip
            folder = folder_button("Choose a folder", size="sm", elem_id="label-folder")
    status = gr.HTML(notice(WELCOME), elem_id="label-status", js_on_load=script("live.js"))
    with gr.Column(visible=False, elem_id="label-panel") as panel:
        with gr.Row():
            reader = gr.Textbox(
                "", label="Reader, such as initials", max_lines=1, elem_id="label-reader"
            )
            second = gr.Checkbox(
                False, label="Second reader: show me what others have named",
                elem_id="label-second",
            )  # fmt: skip
            suggest = gr.Checkbox(
                False, label="Show suggestions (they bias you)", elem_id="label-suggest"
            )
        with gr.Row():
            more = gr.Button("Next cells", size="sm", elem_id="label-next")
            adapt = gr.Button(
                "Adapt and estimate", size="sm", variant="primary", elem_id="label-adapt"
            )
            csv = gr.Button("Labels (CSV)", size="sm", elem_id="label-csv")
            model = gr.Button("Adapted model (ZIP)", size="sm", elem_id="label-model")
    report = gr.HTML("", elem_id="label-report", js_on_load=script("live.js"))
    cells = review_gallery("label-cells")
    zoomed, kept = zoom_channel("label-zoomed"), gr.JSON(visible=False)
    shown = list(Shown(status, cells, report, panel))
    drop.upload(tab.take, [drop, scale, merges], [*shown, drop], **busy("/label"))
    folder.upload(tab.take, [folder, scale, merges], [*shown, folder], **busy("/label_folder"))
    for number, event in enumerate((reader.submit, reader.blur, second.input)):
        event(tab.read_as, [reader, second], shown, **busy(f"/label_reader_{number}"))
    suggest.input(tab.suggest, [suggest], shown, **busy("/label_suggest"))
    more.click(tab.more, None, shown, **busy("/label_next"))
    adapt.click(tab.adapt, None, shown, **busy("/label_adapt"))
    for button, make in ((csv, tab.csv), (model, tab.model)):
        made = button.click(make, None, [kept, *shown], **busy(f"/label_{make.__name__}"))
        made.then(None, [kept], [kept], js=SAVE, api_visibility="private")
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    cells.zoom(tab.zoom, None, [zoomed], queue=False, **hidden)
    in_turn = {"concurrency_id": "label", "concurrency_limit": 1, "trigger_mode": "multiple"}
    cells.save(tab.save, None, shown, **hidden, **in_turn)
    page.load(tab.restore, [kept], shown, js=TAB_KEY, queue=False, **hidden)


@dataclass(frozen=True)
class LabelTab:
    """The tab's event handlers; Gradio's request identifies the visitor."""

    service: Service
    sessions: Sessions

    def take(
        self, files: tuple[UploadedFile, ...], scale_text: str, merges: bool, request: gr.Request
    ) -> tuple[Any, ...]:
        """Embed dropped cells and choose the first ones; clear the upload box."""
        who, uploads = visitor_id(request), self.service.take(files, measures=False)
        shown = Shown()
        with self.sessions.reading(who), error_message() as failed:
            laboratory = open_laboratory(
                self.service.predictor, uploads.pictures, self.service.scale(scale_text),
                merges_bands=merges, path=self.service.labels,
            )  # fmt: skip
            self.sessions.keep_laboratory(who, laboratory)
            refused = fragment("label_refused.html", {"refused": uploads.refused})
            shown = self._whole(laboratory, refused)
        return *(Shown(status=failed.html) if failed.html else shown), None

    def read_as(self, reader: str, is_second: bool, request: gr.Request) -> Shown:
        """Go on as another reader."""
        return self._changed(request, lambda it: it.read_as(reader, is_second))

    def suggest(self, shows: bool, request: gr.Request) -> Shown:
        """Show or hide what the model thinks."""
        return self._changed(request, lambda it: setattr(it, "shows_suggestions", shows))

    def more(self, request: gr.Request) -> Shown:
        """Choose the next cells."""
        return self._changed(request, lambda it: it.next_batch())

    def save(self, request: gr.Request, event: gr.EventData) -> Shown:
        """Store what a person answered; the gallery already shows it."""
        laboratory = self.sessions.laboratory(visitor_id(request))
        shown = self._gone()
        with error_message() as failed:
            review = saved_review(event, LABEL_IDS)
            if laboratory is not None and review.sample == laboratory.number:
                with laboratory.lock:
                    laboratory.save(review.labels)
                    shown = Shown(status=self._status(laboratory) + acknowledge(review))
                    if laboratory.is_batch_done and not laboratory.is_second:
                        laboratory.next_batch()
                        shown = shown._replace(cells=self._gallery(laboratory))
        return Shown(status=failed.html) if failed.html else shown

    def adapt(self, request: gr.Request) -> Shown:
        """Fit the model to the labels, and say what that brought."""
        laboratory = self.sessions.laboratory(visitor_id(request))
        if laboratory is None:
            return self._gone()
        with laboratory.lock:
            return Shown(report=_report(laboratory))

    def csv(self, request: gr.Request) -> tuple[Any, ...]:
        """Return the labels as a file."""
        return self._made(
            request, lambda it: {"name": "labels.csv", "kind": "text/csv", "text": it.csv()}
        )

    def model(self, request: gr.Request) -> tuple[Any, ...]:
        """Return the adapted model as a file."""

        def made(laboratory: Laboratory) -> dict[str, str]:
            data = laboratory.model_zip()
            return {"name": "adapted_model.zip", "kind": "application/zip", "base64": data}

        return self._made(request, made)

    def zoom(self, request: gr.Request, event: gr.EventData) -> Any:
        """Render one cell larger."""
        laboratory = self.sessions.laboratory(visitor_id(request))
        if laboratory is None or event.sample != laboratory.number:
            return gr.skip()
        ids = laboratory.learner.pool.image_ids
        if not (isinstance(event.number, int) and 1 <= event.number <= len(ids)):
            return gr.skip()
        seen = picture_uri(laboratory.squares[ids[event.number - 1]], SQUARE_PX)
        values = {"number": event.number, "sample": laboratory.number, "seen": seen}
        return fragment("label_zoom.html", values)

    def restore(self, key: Any, request: gr.Request) -> Shown:
        """Show the cells again that the same browser tab had before it was reloaded."""
        who = visitor_id(request)
        self.sessions.adopt(who, str(key))
        laboratory = self.sessions.laboratory(who)
        return Shown() if laboratory is None else self._whole(laboratory)

    def _changed(self, request: gr.Request, change: Any) -> Shown:
        laboratory = self.sessions.laboratory(visitor_id(request))
        if laboratory is None:
            return self._gone()
        shown = Shown()
        with laboratory.lock, error_message() as failed:
            change(laboratory)
            shown = self._whole(laboratory)
        return Shown(status=failed.html) if failed.html else shown

    def _made(self, request: gr.Request, make: Any) -> tuple[Any, ...]:
        laboratory = self.sessions.laboratory(visitor_id(request))
        if laboratory is None:
            return None, *self._gone()
        file, shown = None, Shown()
        with laboratory.lock, error_message() as failed:
            file = make(laboratory)
        if failed.html:
            shown = Shown(report=failed.html)
        return file, *shown

    def _gone(self) -> Shown:
        return Shown(status=notice(WELCOME), cells="", report="", panel=gr.Column(visible=False))

    def _whole(self, laboratory: Laboratory, before: str = "") -> Shown:
        """Render the whole tab, but for the report."""
        return Shown(
            status=before + self._status(laboratory),
            cells=self._gallery(laboratory),
            panel=gr.Column(visible=True),
        )

    def _status(self, laboratory: Laboratory) -> str:
        from hf_wbc.labeling.summary import agreement_lines, count_line

        kept = KEPT_HERE
        if laboratory.file is not None:
            kept = KEPT_BELOW.format(path=laboratory.file.path)
        learner = laboratory.learner
        lines = [count_line(learner), *agreement_lines(learner), kept]
        return fragment("label_status.html", {"lines": lines, "num": len(learner.labels)})

    def _gallery(self, laboratory: Laboratory) -> str:
        gallery = self.service.predictor.reference_set.gallery
        references = {} if gallery is None else reference_images(gallery)
        return gallery_html(
            _review_cells(laboratory), LABEL_CLASSES, references, laboratory.number,
            is_blind=not laboratory.shows_suggestions, open_group=OPEN,
        )  # fmt: skip


def _review_cells(laboratory: Laboratory) -> list[ReviewCell]:
    pool, names, own = laboratory.learner.pool, laboratory.shown, laboratory.own
    rows = pool.rows(names)
    suggested = laboratory.learner.quick_proba(rows) if laboratory.shows_suggestions else None
    cells = []
    for place, (name, row) in enumerate(zip(names, rows.tolist(), strict=True)):
        p = None if suggested is None else suggested[place]
        top = (
            []
            if p is None
            else [(int(c), round(float(p[c]), 6)) for c in (-p).argsort()[:MOST_TOP]]
        )
        cells.append(
            ReviewCell(
                number=row + 1,
                digest=f"{laboratory.reader}:{name}",
                name=name,
                uri=picture_uri(laboratory.squares[name], CARD_PX),
                label=top[0][0] if top else NO_CLASS,
                top=top,
                doubt=1 - place / len(names),  # keeps the order of the batch
                harm=0.0,
                given=label_id(own[name]) if name in own else None,
                is_unidentified=p is None,
            )
        )
    return cells


def _report(laboratory: Laboratory) -> str:
    from hf_wbc.labeling.summary import describe

    learner = laboratory.learner
    estimates = learner.fit().estimate()
    before, after = (None, None) if estimates is None else (estimates[1], estimates[0])
    return fragment(
        "label_report.html",
        {
            "before": before, "after": after, "num": len(learner.labels),
            "num_random": len(learner.sample), "lines": describe(learner),
            "is_adapted": learner.adaptation.is_adapted,
        },
    )  # fmt: skip
