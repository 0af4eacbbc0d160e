"""The tab that says how much the dropped cells are like those of the training laboratories."""

import gradio as gr

from hf_wbc.app.desk import Desk
from hf_wbc.app.events import busy, sentence_for
from hf_wbc.app.fragments import fragment, notice, script
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.slide import Slide
from hf_wbc.app.visitors import visitor

FEWEST = 5
"""Cells below which nothing can be said of a laboratory."""
WELCOME = (
    "Read a slide in the tab Many cells first: here you see where its cells lie among those of the "
    "training laboratories, and which model fits them best."
)


def domains_tab(desk: Desk, sessions: Sessions) -> None:
    """Put the tab's components and events into the open blocks."""
    button = gr.Button("Compare the slide of Many cells", variant="primary", elem_id="domains-go")
    result = gr.HTML(notice(WELCOME), elem_id="domains-result", js_on_load=script("live.js"))

    def show(request: gr.Request) -> str:
        return _shown(desk, sessions.slide(visitor(request)))

    button.click(show, None, [result], **busy("/domains"))


def _shown(desk: Desk, slide: Slide) -> str:
    if len(slide.cases) < FEWEST:
        return notice(f"{WELCOME} It takes {FEWEST} cells or more.")
    from hf_wbc.app.fit import fits
    from hf_wbc.app.whereabouts import whereabouts

    shown = ""
    with sentence_for() as failed:
        values = {
            "found": whereabouts(desk, slide),
            "fits": fits(desk, slide),
            "num_cells": len(slide.cases),
        }
        shown = fragment("domains.html", values)
    return shown + failed.html
