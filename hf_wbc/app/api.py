"""Named endpoints for programs: the same answers as on the page, as JSON.

`/classify` one image, `/count` many, `/about` the model and the limits; spaces/wbc/README.md has
their fields. A mistake is an error with the sentence that the page would show.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr

from hf_wbc.app.components import busy, file_drop_box
from hf_wbc.app.count import count_cells
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile
from hf_wbc.inference.cell_prediction import CellPrediction
from hf_wbc.taxonomy import NAMES

DIGITS = 6


def add_endpoints(desk: Service) -> None:
    """Put `/classify`, `/count` and `/about` into the open blocks, where nobody sees them."""
    with gr.Row(visible=False):
        image = file_drop_box("image")
        images = file_drop_box("images", file_count="multiple")
        scale = gr.Textbox(label="scale")
        answer = gr.JSON(label="answer")
        button = gr.Button()
    _endpoint(button, partial(classify, desk), [image, scale], answer, "classify")
    _endpoint(button, partial(count, desk), [images, scale], answer, "count")
    _endpoint(button, partial(about, desk), None, answer, "about")


def classify(desk: Service, given: Sequence[UploadedFile], scale: str = "") -> dict[str, Any]:
    """One image's answer."""
    with _sentences():
        um_per_px = _checked(desk, given, scale)
        uploads = desk.take(given)
        if uploads.refused:
            one = uploads.refused[0]
            raise ValueError(f"{one.name}: {one.why}")
        if len(uploads.pictures) != 1:
            raise ValueError(f"{len(uploads.pictures)} images; /classify takes one, /count many")
        return {
            **_json(desk.answer(uploads.pictures[0], um_per_px)),
            "model": desk.predictor.pretrained.revision,
        }


def count(desk: Service, given: Sequence[UploadedFile], scale: str = "") -> dict[str, Any]:
    """Many images' answers and their differential count."""
    with _sentences():
        um_per_px = _checked(desk, given, scale)
        uploads = desk.take(given)
        slide = Slide().added(uploads, desk.limits)
        slide = slide.answered(desk.read(slide, um_per_px))
        counted = count_cells(desk, slide)
        return {
            "cells": [{"image": case.picture.name, **_json(case.answer)} for case in slide.cases],
            "refused": [{"image": one.name, "why": one.why} for one in slide.refused],
            "num_left": len(slide.waiting),
            "differential": None if counted is None else counted.to_dict(),
            "model": desk.predictor.pretrained.revision,
        }


def about(desk: Service) -> dict[str, Any]:
    """The model, its classes, scales by name and limits."""
    return {
        "model": {"name": desk.title, **desk.predictor.info},
        "is_toy": desk.is_toy,
        "classes": list(NAMES),
        "scales_um_per_px": dict(desk.laboratories),
        "limits": vars(desk.limits),
        "notice": "research use, not a medical device",
    }


def _endpoint(button: Any, fn: Any, inputs: Any, output: Any, name: str) -> None:
    options = {**busy(name), "api_visibility": "public"}
    button.click(fn, inputs, output, api_description=fn.func.__doc__, **options)


def _checked(desk: Service, given: Sequence[UploadedFile], scale: str) -> float | None:
    """The scale; the files are deleted when it is none."""
    try:
        um_per_px = desk.scale(scale)
    except ValueError:
        desk.take(given)
        raise
    if not given:
        raise ValueError("no image was given; send a file")
    return um_per_px


@contextmanager
def _sentences() -> Iterator[None]:
    """Give a client the sentence of a mistake, and the server's log nothing."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _json(answer: CellPrediction) -> dict[str, Any]:
    """An answer as plain JSON values."""
    return {
        "class": NAMES[answer.label],
        "label": answer.label,
        "probability": round(float(answer.probabilities[answer.label]), DIGITS),
        "probabilities": {
            name: round(float(p), DIGITS)
            for name, p in zip(NAMES, answer.probabilities, strict=True)
        },
        "conformal_set": [NAMES[label] for label in answer.conformal_set],
        "rejected": answer.rejected,
        "lineage": {name: round(p, DIGITS) for name, p in answer.lineage.items()},
        "um_per_px": answer.um_per_px,
        "scale_guessed": answer.scale_guessed,
        "box": list(answer.box),
        "warnings": list(answer.warnings),
    }
