"""The page: five tabs over one model, the endpoints for programs, and the theme."""

import asyncio
from typing import Any

import gradio as gr

from hf_wbc.app.about import about_html
from hf_wbc.app.domains_tab import domains_tab
from hf_wbc.app.endpoints import add_endpoints
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.label_tab import label_tab
from hf_wbc.app.many_cells import many_cells_tab
from hf_wbc.app.one_cell import one_cell_tab
from hf_wbc.app.service import Service
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.escape import public_message

TITLE = "White blood cells across laboratories"
LOADING = "The model is still loading. You can start: predictions appear as soon as it is loaded."
LOADED = '<div class="wbc"><p class="sr note">The model is loaded.</p></div>'
"""Announces the end of loading to screen readers."""


def build_page(service: Service, sessions: Sessions) -> Any:
    """Build the Gradio blocks, which `launch` serves."""

    def arrive() -> Any:
        return gr.skip() if service.own.settled.done() else notice(LOADING)

    async def describe() -> tuple[Any, Any]:
        """Wait for the model without occupying a thread."""
        waits = not service.own.settled.done()
        try:
            await asyncio.wrap_future(service.own.settled)
        except Exception as error:  # the server reports it as well, and stops
            message = public_message(error)
            return notice(f"The model could not be loaded: {message}.", "warning"), gr.skip()
        return LOADED if waits else gr.skip(), about_html(service)

    def leave(request: gr.Request) -> None:
        sessions.leave(visitor_id(request))

    abandoned = service.limits.abandoned_seconds
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(max(1, abandoned // 10), abandoned),
        fill_width=False,
    ) as page:
        gr.HTML(fragment("header.html", {"service": service, "title": TITLE}))
        loading = gr.HTML("", elem_id="loading", padding=False, js_on_load=script("live.js"))
        # On a phone, the tabs take two rows; none hides in a menu.
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab("One cell", id="one"):
                one_cell_tab(service, sessions)
            with gr.Tab("Many cells", id="many"):
                many_cells_tab(page, service, sessions)
            with gr.Tab("Label", id="label"):
                label_tab(page, service, sessions)
            with gr.Tab("Does it fit my laboratory?", id="domains"):
                domains_tab(service, sessions)
            with gr.Tab("About", id="about"):
                about = gr.HTML(notice(LOADING), elem_id="about")
        add_endpoints(service)
        # Outside the queue, so that a full queue does not block opening the page.
        private = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        page.load(arrive, None, [loading], **private)
        page.load(describe, None, [loading, about], **private)
        page.unload(leave)
    page.queue(max_size=service.limits.num_waiting)
    return page


FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "Consolas", "Menlo", "monospace")


def theme() -> Any:
    """Gradio's soft theme with local fonts only."""
    import gradio as gr

    return gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        button_primary_background_fill="#0757a8",
        button_primary_background_fill_hover="#06478a",
        button_primary_background_fill_dark="#0b66c3",
        button_primary_text_color="white",
        button_border_width="1px",
        button_secondary_border_color="#64748b",
        button_secondary_background_fill_hover_dark="#475569",
        button_secondary_text_color_dark="white",
        block_label_text_color="#1e40af",
        block_label_text_color_dark="white",
        block_title_text_color="#1e40af",
        block_title_text_color_dark="white",
        checkbox_border_color="#64748b",
        input_border_width="1px",
        input_border_color="#64748b",
        body_text_color_subdued="#4b5563",
        body_text_color_subdued_dark="#cbd5e1",
    )
