"""Components that all tabs share: upload boxes, the scale, the queue, and error sentences.

Gradio would fetch an address that a client names in place of a file, and leaves an empty file
beside
every upload. The components are changed per instance, because for a subclass Gradio would write a
file of type hints next to this one.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from hf_wbc.app.html_fragments import notice
from hf_wbc.app.scale_input import GUESS, choices
from hf_wbc.app.service import Service
from hf_wbc.app.uploads import UploadedFile
from hf_wbc.escape import public_message

AT_ONCE = 2
"""Concurrent predictions; other requests wait in the queue."""


@dataclass
class FailureMessage:
    """An error as HTML; empty if there was none."""

    html: str = ""


@contextmanager
def error_message() -> Iterator[FailureMessage]:
    """Turn a user's mistake into a sentence on the page."""
    failed = FailureMessage()
    try:
        yield failed
    except ValueError as error:
        failed.html = notice(f"{public_message(error)}.", "warning")


def busy(name: str) -> dict[str, Any]:
    """Options of an event that uses the model: one shared queue, no public endpoint."""
    return {
        "concurrency_id": "model",
        "concurrency_limit": AT_ONCE,
        "api_name": name.strip("/"),
        "api_visibility": "private",
    }


def scale_box(service: Service, elem_id: str) -> Any:
    """The field for the scale: a preset or a number."""
    return gr.Dropdown(
        choices(service.laboratories),
        value=GUESS,
        label="Scale: choose, or type µm per pixel",
        allow_custom_value=True,
        elem_id=elem_id,
    )


Place = str | Path | None


def file_drop_box(label: str, **options: Any) -> Any:
    """A box for files. Handlers get a tuple of `UploadedFile` and must delete the files."""
    return _private(gr.File(label=label, **options))


def folder_button(label: str, **options: Any) -> Any:
    """A button to choose a folder; otherwise like `file_drop_box`."""
    return _private(gr.UploadButton(label, file_count="directory", **options))


def _private(component: Any) -> Any:
    moved = partial(_uploads_alone, component.async_move_resource_to_block_cache)
    component.__dict__.update(preprocess=_given, async_move_resource_to_block_cache=moved)
    return component


async def _uploads_alone(
    move: Callable[[Place], Awaitable[str | None]], place: Place
) -> str | None:
    if place is not None and str(place).lower().startswith(("http:", "https:")):
        raise gr.Error(
            "Upload the image itself, not its address: this server does not fetch files.",
            print_exception=False,
        )
    return await move(place)


def _given(payload: ListFiles | FileData | None) -> tuple[UploadedFile, ...]:
    if payload is None:
        return ()
    files = payload.root if isinstance(payload, ListFiles) else [payload]
    return tuple(
        UploadedFile(file.orig_name or Path(file.path).name, Path(file.path)) for file in files
    )
