"""Where files are dropped: Gradio's own upload, that gives names and files and keeps nothing.

Gradio would fetch an address that a client names in the place of a file, and leaves an empty file
beside every upload. Its components are changed one by one, as a subclass of theirs would have
Gradio write a file of type hints beside this one.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from hf_wbc.app.uploads import Given

Place = str | Path | None


def drop_box(label: str, **options: Any) -> Any:
    """A place to drop files; a function gets a tuple of `Given`, and has to delete the files."""
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


def _given(payload: ListFiles | FileData | None) -> tuple[Given, ...]:
    if payload is None:
        return ()
    files = payload.root if isinstance(payload, ListFiles) else [payload]
    return tuple(Given(file.orig_name or Path(file.path).name, Path(file.path)) for file in files)
