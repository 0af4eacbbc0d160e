"""What a session holds: its slide, in memory, gone when the page is closed or long unused."""

from typing import Any

import gradio as gr

from hf_wbc.app.desk import Desk, Slide


def slide_state(desk: Desk) -> Any:
    """The session's slide, empty at first."""
    return gr.State(Slide(), time_to_live=desk.limits.idle_seconds)
