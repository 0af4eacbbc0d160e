"""The whole page: four tabs over one model, and the endpoints for programs.

Colours and type of the page; every font is one that the reader's machine has."""

import asyncio
from typing import Any

import gradio as gr

from hf_wbc.app.about import about_html
from hf_wbc.app.api import add_endpoints
from hf_wbc.app.domains_tab import domains_tab
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.many_cells import many_cells_tab
from hf_wbc.app.one_cell import one_cell_tab
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id

TITLE = "White blood cells across laboratories"
LOADING = "The model is still being loaded. You may begin: it answers as soon as it is there."
LOADED = '<div class="wbc"><p class="sr note">The model is loaded.</p></div>'
"""For those who do not see the other sentence go."""


def build_page(desk: Service, sessions: Sessions) -> Any:
    """The blocks; `launch` opens them."""

    def arrive() -> Any:
        return gr.skip() if desk.own.settled.done() else notice(LOADING)

    async def describe() -> tuple[Any, Any]:
        """Waits for the model, and keeps no thread from others meanwhile."""
        waits = not desk.own.settled.done()
        try:
            await asyncio.wrap_future(desk.own.settled)
        except Exception as error:  # the server says so, too, and stops
            return notice(f"The model could not be loaded: {error}.", "warning"), gr.skip()
        return LOADED if waits else gr.skip(), about_html(desk)

    def leave(request: gr.Request) -> None:
        sessions.leave(visitor_id(request))

    abandoned = desk.limits.abandoned_seconds
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(max(1, abandoned // 10), abandoned),
        fill_width=False,
    ) as page:
        gr.HTML(fragment("header.html", {"desk": desk, "title": TITLE}))
        loading = gr.HTML("", elem_id="loading", padding=False, js_on_load=script("live.js"))
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("One cell", id="one"):
                one_cell_tab(desk, sessions)
            with gr.Tab("Many cells", id="many"):
                many_cells_tab(desk, sessions)
            with gr.Tab("Domains", id="domains"):
                domains_tab(desk, sessions)
            with gr.Tab("About", id="about"):
                about = gr.HTML(notice(LOADING), elem_id="about")
        add_endpoints(desk)
        # Beside the queue: a full one keeps nobody from reading what the page is.
        private = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        page.load(arrive, None, [loading], **private)
        page.load(describe, None, [loading, about], **private)
        page.unload(leave)
    page.queue(max_size=desk.limits.num_waiting)
    return page


FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "Consolas", "Menlo", "monospace")


def theme() -> Any:
    """Gradio's soft theme without a font that is fetched."""
    import gradio as gr

    return gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        button_primary_background_fill="#0757a8",
        button_primary_background_fill_hover="#06478a",
        button_primary_background_fill_dark="#0b66c3",
        button_primary_text_color="white",
    )
