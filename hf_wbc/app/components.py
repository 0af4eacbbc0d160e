"""Components that all tabs share: upload boxes, the scale, the queue, and error sentences.

Gradio would fetch an address that a client names in place of a file, and leaves an empty file
beside
every upload. The components are changed per instance, because for a subclass Gradio would write a
file of type hints next to this one.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from hf_wbc.app.html_fragments import notice
from hf_wbc.app.scale_input import presets
from hf_wbc.app.service import Service
from hf_wbc.app.uploads import UploadedFile
from hf_wbc.escape import public_message

AT_ONCE = 3
"""Concurrent requests that use the model; others wait in the queue.

One more than the processes that read uploads: while two are read, another is classified.
"""


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


def busy(name: str, shown_on: Any = None) -> dict[str, Any]:
    """Options of an event that uses the model: one shared queue, no public endpoint.

    Args:
        name: Name of the event.
        shown_on: The component that shows the progress; None shows it on every output.
    """
    return {
        **({} if shown_on is None else {"show_progress_on": shown_on}),
        "concurrency_id": "model",
        "concurrency_limit": AT_ONCE,
        "api_name": name.strip("/"),
        "api_visibility": "private",
    }


@dataclass(frozen=True)
class ScaleField:
    """A field for the scale, and a menu of presets that fill it."""

    text: Any
    preset: Any
    used: Any
    """The text that was last used to predict."""

    def on_change(
        self,
        handler: Callable[..., tuple[Any, ...]],
        outputs: Sequence[Any],
        name: str,
        shown_on: Any = None,
    ) -> None:
        """Call the handler when a person has entered another text or chosen a preset.

        The handler gets the text, the request and the progress, and returns a value per output.
        The progress is shown as in `busy`.
        """

        def entered(
            text: str,
            used: str,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio recognizes its default)
        ) -> tuple[Any, ...]:
            if text == used:
                return (gr.skip(),) * (len(outputs) + 1)
            return *handler(text, request, progress), text

        inputs, results = [self.text, self.used], [*outputs, self.used]
        for number, event in enumerate((self.text.submit, self.text.blur)):
            event(entered, inputs, results, **busy(f"{name}_{number}", shown_on))
        chosen = self.preset.input(
            lambda preset: preset, self.preset, self.text, queue=False, api_visibility="private"
        )
        chosen.then(entered, inputs, results, **busy(f"{name}_preset", shown_on))


def scale_field(service: Service, of: str, elem_id: str) -> ScaleField:
    """Add the field for the scale of `of`, such as `this image`, and its menu of presets."""
    text = gr.Textbox(
        "",
        label=f"Scale of {of}, µm per pixel",
        placeholder="estimated from the red cells",
        max_lines=1,
        elem_id=elem_id,
    )
    preset = gr.Dropdown(
        presets(service.laboratories),
        value=None,
        label=f"Fill in the scale of {of}",
        elem_id=f"{elem_id}-preset",
    )
    return ScaleField(text, preset, gr.State(""))


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
