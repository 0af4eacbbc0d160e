"""Where files are dropped: Gradio's own upload, that gives names and files and keeps nothing.

Gradio would fetch an address that a client names in the place of a file, and leaves an empty file
beside every upload.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from hf_wbc.app.uploads import Given


class Drop(gr.File):
    """A place to drop files; a function gets a tuple of `Given`, and deletes the files."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> Any:
        """The files as they came; () for none."""
        return _given(payload)

    async def async_move_resource_to_block_cache(
        self, url_or_file_path: str | Path | None
    ) -> str | None:
        """As Gradio does it, for uploaded files alone."""
        _refuse_address(url_or_file_path)
        found: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return found


class DropFolder(gr.UploadButton):
    """A button that asks for a folder; otherwise a `Drop`."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> Any:
        """The files as they came; () for none."""
        return _given(payload)

    async def async_move_resource_to_block_cache(
        self, url_or_file_path: str | Path | None
    ) -> str | None:
        """As Gradio does it, for uploaded files alone."""
        _refuse_address(url_or_file_path)
        found: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return found


def _given(payload: ListFiles | FileData | None) -> tuple[Given, ...]:
    if payload is None:
        return ()
    files = payload.root if isinstance(payload, ListFiles) else [payload]
    return tuple(Given(file.orig_name or Path(file.path).name, Path(file.path)) for file in files)


def _refuse_address(place: str | Path | None) -> None:
    if place is not None and str(place).lower().startswith(("http:", "https:")):
        raise gr.Error(
            "Give the picture itself, not its address: nothing is fetched from here.",
            print_exception=False,
        )
