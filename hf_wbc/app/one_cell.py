"""The tab for one image: its class, the uncertainty, alternatives, and the evidence."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from hf_wbc.app import html_fragments
from hf_wbc.app.components import busy, error_message, file_drop_box, scale_field
from hf_wbc.app.examples import ATTRIBUTION, examples_for
from hf_wbc.app.field_view import ShownCell, field_html
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.page_text import (
    cell_name,
    confusables,
    map_sentence,
    remaining_warnings,
    set_sentences,
)
from hf_wbc.app.reason_text import reason_sentences
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.uploads import UploadedFile, UploadedImage, Uploads
from hf_wbc.comparison.document import join_names
from hf_wbc.taxonomy import CLASSES, CLINICAL_ORDER

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction


MOST_CELLS = 100
"""Cells of a field of view that the tab shows; the tab for many cells shows more."""
NUM_NEIGHBORS = 6
WELCOME = (
    "Drop an image of one white blood cell, or choose an example. The model looks at the 25 µm "
    "around the cell and compares it with eleven classes. In a field of view, the page finds the "
    "cells first."
)


def one_cell_tab(service: Service, sessions: Sessions) -> None:
    """Add the tab's components and events to the current blocks."""
    tab = OneCell(service, sessions)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            drop = file_drop_box("An image of one cell", height=170, elem_id="one-drop")
            scale = scale_field(service, "this image", "one-scale")
            if service.is_toy:
                gr.Markdown("No image available? Try a drawing:")
            else:
                gr.Markdown(f"No image available? Try a cell of {ATTRIBUTION}:")
            buttons = []
            with gr.Row(elem_classes="wbc-examples"):
                for example in examples_for(service.is_toy):
                    buttons.append(gr.Button(cell_name(example.label), size="sm", min_width=110))
        with gr.Column(scale=5, min_width=300):
            result = gr.HTML(notice(WELCOME), elem_id="one-result", js_on_load=script("live.js"))
    drop.upload(tab.take, [drop, scale.text], [result, drop], **busy("/one"))
    scale.on_change(tab.again, [result], "/one_scale")
    for number, button in enumerate(buttons):
        outputs = [scale.text, scale.used, result]
        button.click(tab.example(number), None, outputs, **busy("/one_example"))


@dataclass(frozen=True)
class OneCell:
    """The tab's event handlers; Gradio's request identifies the visitor."""

    service: Service
    sessions: Sessions

    def take(
        self, files: Sequence[UploadedFile], scale_text: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """Predict an uploaded image and clear the upload box."""
        uploads = self.service.take(files, measures=not scale_text.strip())
        return self.read(uploads, scale_text, visitor_id(request)), None

    def again(
        self, scale_text: str, request: gr.Request, progress: gr.Progress | None = None
    ) -> tuple[Any]:
        """Predict the same image at another scale."""
        who = visitor_id(request)
        picture = self.sessions.picture(who)
        if picture is None:
            gone = self.sessions.news(who)
            return (notice(f"{gone}.", "warning") if gone else gr.skip(),)
        return (self.read(Uploads((picture,)), scale_text, who),)

    def example(self, number: int) -> Callable[[gr.Request], tuple[str, str, str]]:
        """Return the event handler that predicts an example cell."""
        example = examples_for(self.service.is_toy)[number]

        def read(request: gr.Request) -> tuple[str, str, str]:
            self.service.wait()
            scale = f"{example.um_per_px:.4g} µm/px"
            uploads = Uploads((example.picture(),))
            return scale, scale, self.read(uploads, scale, visitor_id(request))

        return read

    def read(self, uploads: Uploads, scale_text: str, who: str) -> str:
        """Render the prediction for the first image, preceded by notices about the others."""
        parts = [notice(f"{one.name}: {one.why}.", "warning") for one in uploads.refused]
        if len(uploads.pictures) > 1:
            num = f"{len(uploads.pictures):,}"
            parts.append(notice(f"The first of {num} images. Use the tab Many cells for all."))
        if not uploads.pictures:
            self.sessions.show(who, None)
            return "".join(parts) or notice(WELCOME)
        with error_message() as failed:
            picture = uploads.pictures[0]
            self.sessions.show(who, picture)
            prediction = self.service.predict_cell(picture, self.service.scale(scale_text))
            parts.append(self._shown(picture, prediction))
        return "".join(parts) + failed.html

    def _shown(self, picture: UploadedImage, prediction: "CellPrediction") -> str:
        """Render a cell or, if the image is a field of view, the cells found in it."""
        from hf_wbc.inference.cell_prediction import is_field

        if is_field(prediction.warnings):
            scale = prediction.scale_estimate or prediction.um_per_px
            found = self.service.predict_field(picture, scale, MOST_CELLS)
            cells = [
                ShownCell(number, cell, each, each.label, each.rejected)
                for number, (cell, each) in enumerate(found, 1)
            ]
            if cells:
                return field_html(picture, cells)
        return show(self.service, picture, prediction)


def show(service: Service, picture: UploadedImage, prediction: "CellPrediction") -> str:
    """Render everything about one image."""
    height, width = picture.pixels.shape[:2]
    from hf_wbc.inference.cell_prediction import is_field

    heat, test = service.predictor.saliency(picture.pixels, prediction.um_per_px, prediction.label)
    return fragment(
        "one_cell.html",
        {
            "prediction": prediction,
            "name": picture.name,
            "label": cell_name(prediction.label),
            "is_field": is_field(prediction.warnings),
            "lineage": CLASSES[prediction.label].lineage,
            "set_sentences": set_sentences(prediction, service.alpha, service.always_in_set),
            "warnings": remaining_warnings(prediction),
            "whole": html_fragments.full_image(picture.pixels),
            "seen": html_fragments.crop_image(picture.pixels, prediction),
            "heat": html_fragments.heat(picture.pixels, prediction, heat),
            "map_sentence": map_sentence(test, prediction.label),
            "width": width,
            "height": height,
            "box": prediction.box,
            "untaught": join_names([cell_name(label) for label in service.untaught], "or"),
            "rows": [_row(prediction, label, service.always_in_set) for label in CLINICAL_ORDER],
            "lineages": list(prediction.lineage.items()),
            "confusables": confusables(prediction),
            "reasons": reason_sentences(prediction),
            "neighbors": [
                {
                    "uri": html_fragments.thumbnail(each.thumbnail) if each.thumbnail else "",
                    "name": cell_name(each.label),
                    "source": each.source,
                    "distance": each.distance,
                }
                for each in service.predictor.neighbors(prediction, NUM_NEIGHBORS)
            ],
            "model": f"Model {service.title}",
        },
    )


def _row(prediction: "CellPrediction", label: int, always: Collection[int]) -> dict[str, Any]:
    return {
        "name": cell_name(label),
        "p": float(prediction.probabilities[label]),
        "lineage": CLASSES[label].lineage,
        "in_set": label in prediction.conformal_set and label not in always,
    }
