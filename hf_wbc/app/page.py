"""The whole page: four tabs over one model, and the endpoints for programs."""

from typing import Any

import gradio as gr

from hf_wbc.app.about import about_tab
from hf_wbc.app.desk import Desk
from hf_wbc.app.domains import domains_tab
from hf_wbc.app.endpoints import add_endpoints
from hf_wbc.app.fragments import fragment
from hf_wbc.app.many_cells import many_cells_tab
from hf_wbc.app.one_cell import one_cell_tab
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.visitors import visitor

TITLE = "White blood cells across laboratories"


def build_page(desk: Desk, sessions: Sessions) -> Any:
    """The blocks; `launch` opens them."""

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
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("One cell", id="one"):
                one_cell_tab(desk, sessions)
            with gr.Tab("Many cells", id="many"):
                many_cells_tab(desk, sessions)
            with gr.Tab("Domains", id="domains"):
                domains_tab(desk, sessions)
            with gr.Tab("About", id="about"):
                about_tab(desk)
        add_endpoints(desk)
        page.unload(leave)
    page.queue(max_size=desk.limits.num_waiting)
    return page
