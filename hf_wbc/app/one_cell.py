"""The tab for one image: its class, how sure that is, what else it may be, and on what grounds."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hf_wbc.app import html_fragments
from hf_wbc.app.components import busy, error_message, file_drop_box, scale_box
from hf_wbc.app.examples import EXAMPLES, draw_example
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.page_text import (
    cell_name,
    confusables,
    map_sentence,
    remaining_warnings,
    set_sentences,
)
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.uploads import UploadedFile, UploadedImage, Uploads
from hf_wbc.comparison.document import join_names
from hf_wbc.inference.cell_prediction import CellPrediction
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES

NUM_NEIGHBOURS = 6
ORDER = lineage_order(NAMES)
WELCOME = (
    "Drop an image of one white blood cell, or choose a drawn one. The 25 µm around the cell are "
    "cut out and compared with eleven kinds of cells."
)


def one_cell_tab(desk: Service, sessions: Sessions) -> None:
    """Put the tab's components and events into the open blocks."""
    tab = OneCell(desk, sessions)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            drop = file_drop_box("An image of one cell", height=170, elem_id="one-drop")
            scale = scale_box(desk, "one-scale")
            gr.Markdown("No image at hand? These are drawings:")
            buttons = []
            with gr.Row(elem_classes="wbc-examples"):
                for example in EXAMPLES:
                    buttons.append(gr.Button(cell_name(example.label), size="sm", min_width=110))
        with gr.Column(scale=5, min_width=300):
            result = gr.HTML(notice(WELCOME), elem_id="one-result", js_on_load=script("live.js"))
    drop.upload(tab.take, [drop, scale], [result, drop], **busy("/one"))
    scale.input(tab.again, [scale], [result], **busy("/one_scale"))
    for number, button in enumerate(buttons):
        button.click(tab.example(number), None, [scale, result], **busy("/one_example"))


@dataclass(frozen=True)
class OneCell:
    """What the tab does, for a visitor whom Gradio's request names."""

    desk: Service
    sessions: Sessions

    def take(
        self, given: Sequence[UploadedFile], said: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """Read a dropped image; the box is empty again."""
        uploads = self.desk.take(given)
        return self.read(uploads, said, visitor_id(request)), None

    def again(self, said: str, request: gr.Request) -> Any:
        """Read the image at another scale."""
        who = visitor_id(request)
        picture = self.sessions.picture(who)
        if picture is None:
            gone = self.sessions.news(who)
            return notice(f"{gone}.", "warning") if gone else gr.skip()
        return self.read(Uploads((picture,)), said, who)

    def example(self, number: int) -> Callable[[gr.Request], tuple[str, str]]:
        """Read a drawn cell; the event of its button."""
        example = EXAMPLES[number]

        def read(request: gr.Request) -> tuple[str, str]:
            self.desk.wait()
            said = f"{example.um_per_px:.4g}"
            return said, self.read(Uploads((draw_example(example),)), said, visitor_id(request))

        return read

    def read(self, uploads: Uploads, said: str, who: str) -> str:
        """The answer to the first picture, after what is wrong with the others."""
        said_of = [notice(f"{one.name}: {one.why}.", "warning") for one in uploads.refused]
        if len(uploads.pictures) > 1:
            words = (
                f"The first of {len(uploads.pictures):,} images; for all of them see Many cells."
            )
            said_of.append(notice(words))
        if not uploads.pictures:
            self.sessions.show(who, None)
            return "".join(said_of) or notice(WELCOME)
        with error_message() as failed:
            picture = uploads.pictures[0]
            self.sessions.show(who, picture)
            answer = self.desk.answer(picture, self.desk.scale(said))
            said_of.append(show(self.desk, picture, answer))
        return "".join(said_of) + failed.html


def show(desk: Service, picture: UploadedImage, answer: CellPrediction) -> str:
    """All that is to be said of one picture."""
    height, width = picture.pixels.shape[:2]
    heat, test = desk.predictor.saliency(picture.pixels, answer.um_per_px, answer.label)
    return fragment(
        "one_cell.html",
        {
            "answer": answer,
            "name": picture.name,
            "label": cell_name(answer.label),
            "lineage": CLASSES[answer.label].lineage,
            "set_sentences": set_sentences(answer, desk.alpha, desk.always_in_set),
            "warnings": remaining_warnings(answer),
            "whole": html_fragments.whole_number(picture.pixels),
            "seen": html_fragments.escaped_thumbnail(picture.pixels, answer),
            "heat": html_fragments.heat(picture.pixels, answer, heat),
            "map_sentence": map_sentence(test, answer.label),
            "width": width,
            "height": height,
            "box": answer.box,
            "untaught": join_names([cell_name(label) for label in desk.untaught], "or"),
            "rows": [_row(answer, label, desk.always_in_set) for label in ORDER],
            "lineages": list(answer.lineage.items()),
            "confusables": confusables(answer),
            "neighbours": [
                {
                    "uri": html_fragments.thumbnail(each.thumbnail) if each.thumbnail else "",
                    "name": cell_name(each.label),
                    "source": each.source,
                    "distance": each.distance,
                }
                for each in desk.predictor.neighbors(answer, NUM_NEIGHBOURS)
            ],
            "model": f"Model {desk.title}",
        },
    )


def _row(answer: CellPrediction, label: int, always: Collection[int]) -> dict[str, Any]:
    return {
        "name": cell_name(label),
        "p": float(answer.probabilities[label]),
        "lineage": CLASSES[label].lineage,
        "in_set": label in answer.conformal_set and label not in always,
    }
