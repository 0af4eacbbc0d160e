"""The whole page: four tabs over one model, and the endpoints for programs."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from hf_wbc.app.about import about_html
from hf_wbc.app.desk import Desk
from hf_wbc.app.domains import domains_tab
from hf_wbc.app.endpoints import add_endpoints
from hf_wbc.app.fragments import fragment, notice, script
from hf_wbc.app.many_cells import many_cells_tab
from hf_wbc.app.one_cell import one_cell_tab
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.visitors import visitor

TITLE = "White blood cells across laboratories"
LOADING = "The model is still being loaded. You may begin: it answers as soon as it is there."


def build_page(desk: Desk, sessions: Sessions) -> Any:
    """The blocks; `launch` opens them."""

    def arrive() -> Iterator[tuple[Any, Any]]:
        """The state of the model, and what there is to say about it."""
        if not desk.own.is_there:
            yield gr.HTML(notice(LOADING), visible=True), gr.skip()
        yield gr.HTML(visible=False), about_html(desk)

    def leave(request: gr.Request) -> None:
        sessions.leave(visitor(request))

    abandoned = desk.limits.abandoned_seconds
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(max(1, abandoned // 10), abandoned),
        fill_width=False,
    ) as page:
        gr.HTML(fragment("header.html", {"desk": desk, "title": TITLE}))
        loading = gr.HTML(
            visible=False, elem_id="loading", padding=False, js_on_load=script("live.js")
        )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("One cell", id="one"):
                one_cell_tab(desk, sessions)
            with gr.Tab("Many cells", id="many"):
                many_cells_tab(desk, sessions)
            with gr.Tab("Domains", id="domains"):
                domains_tab(desk, sessions)
            with gr.Tab("About", id="about"):
                about = gr.HTML(elem_id="about")
        add_endpoints(desk)
        page.load(
            arrive,
            None,
            [loading, about],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        page.unload(leave)
    page.queue(max_size=desk.limits.num_waiting)
    return page
