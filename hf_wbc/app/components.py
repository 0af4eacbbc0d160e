"""What all tabs do alike: the scale's box, the queue, and errors that are sentences.

Where files are dropped: Gradio's own upload, that gives names and files and keeps nothing.

Gradio would fetch an address that a client names in the place of a file, and leaves an empty file
beside every upload. Its components are changed one by one, as a subclass of theirs would have
Gradio write a file of type hints beside this one."""

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

AT_ONCE = 2
"""Requests that are worked on at a time; all others see their place in the queue."""


@dataclass
class FailureMessage:
    """What went wrong, as HTML; empty while nothing did."""

    html: str = ""


@contextmanager
def error_message() -> Iterator[FailureMessage]:
    """Turn a person's mistake into a sentence on the page."""
    failed = FailureMessage()
    try:
        yield failed
    except ValueError as error:
        failed.html = notice(f"{error}.", "warning")


def busy(name: str) -> dict[str, Any]:
    """Options of an event that asks the model: one queue for all, and no public endpoint."""
    return {
        "concurrency_id": "model",
        "concurrency_limit": AT_ONCE,
        "api_name": name.strip("/"),
        "api_visibility": "private",
    }


def scale_box(desk: Service, elem_id: str) -> Any:
    """Where a person says the scale: a choice, or a number."""
    return gr.Dropdown(
        choices(desk.laboratories),
        value=GUESS,
        label="Scale: choose, or type µm per pixel",
        allow_custom_value=True,
        elem_id=elem_id,
    )


Place = str | Path | None


def file_drop_box(label: str, **options: Any) -> Any:
    """A place to drop files; a function gets a tuple of `UploadedFile`, and has to delete the files."""
    return _private(gr.File(label=label, **options))


def folder_button(label: str, **options: Any) -> Any:
    """A button that asks for a folder; otherwise a `drop_box`."""
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
            "Give the picture itself, not its address: nothing is fetched from here.",
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
