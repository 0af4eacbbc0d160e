"""Endpoints for programs: the page's predictions as JSON.

`/classify` takes one image, `/count` many; `/about` describes the model and the limits.
spaces/wbc/README.md documents the fields. Errors carry the sentence that the page would show.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from hf_wbc.app.components import busy, file_drop_box
from hf_wbc.app.count import count_cells
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, UploadedImage, remove_all
from hf_wbc.escape import public_message
from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction


DIGITS = 6


def add_endpoints(service: Service) -> None:
    """Add `/classify`, `/count` and `/about` to the current blocks, without visible components."""
    with gr.Row(visible=False):
        image = file_drop_box("image")
        images = file_drop_box("images", file_count="multiple")
        scale = gr.Textbox(label="scale")
        prediction = gr.JSON(label="answer")
        button = gr.Button()
    _endpoint(button, partial(classify, service), [image, scale], prediction, "classify")
    _endpoint(button, partial(count, service), [images, scale], prediction, "count")
    _endpoint(button, partial(about, service), None, prediction, "about")


def classify(service: Service, files: Sequence[UploadedFile], scale: str = "") -> dict[str, Any]:
    """Predict one image."""
    with _sentences():
        um_per_px = _checked(service, files, scale)
        uploads = service.take(files, measures=um_per_px is None)
        if uploads.refused:
            one = uploads.refused[0]
            raise ValueError(f"{one.name}: {one.why}")
        if len(uploads.pictures) != 1:
            raise ValueError(f"{len(uploads.pictures)} images; /classify takes one, /count many")
        prediction = service.predict_cell(uploads.pictures[0], um_per_px)
        return {
            **_json(prediction),
            "cells": found_cells(service, uploads.pictures[0], prediction),
            "model": service.predictor.pretrained.revision,
        }


def count(service: Service, files: Sequence[UploadedFile], scale: str = "") -> dict[str, Any]:
    """Predict many images and return their differential count."""
    with _sentences():
        um_per_px = _checked(service, files, scale)
        uploads = service.take(files)
        slide = Slide().added(uploads, service.limits)
        slide = slide.answered(service.read(slide, um_per_px))
        counted = count_cells(service, slide)
        return {
            "cells": [
                {"image": case.picture.name, **_place(case.picture), **_json(case.prediction)}
                for case in slide.cases
            ],
            "refused": [{"image": one.name, "why": one.why} for one in slide.refused],
            "num_left": len(slide.waiting),
            "differential": None if counted is None else counted.to_dict(),
            "model": service.predictor.pretrained.revision,
        }


def about(service: Service) -> dict[str, Any]:
    """Describe the model, its classes, the named scales and the limits."""
    return {
        "model": {"name": service.title, **service.predictor.info},
        "is_toy": service.is_toy,
        "classes": list(NAMES),
        "scales_um_per_px": dict(service.laboratories),
        "limits": vars(service.limits),
        "notice": "research use, not a medical device",
    }


def _endpoint(button: Any, fn: Any, inputs: Any, output: Any, name: str) -> None:
    fn.__name__ = name  # the name of its tool in the Model Context Protocol
    options = {**busy(name), "api_visibility": "public"}
    button.click(fn, inputs, output, api_description=fn.func.__doc__, **options)


def _checked(service: Service, files: Sequence[UploadedFile], scale: str) -> float | None:
    """Parse the scale; delete the files if it is invalid."""
    try:
        um_per_px = service.scale(scale)
    except ValueError:
        remove_all(files)
        raise
    if not files:
        raise ValueError("no image was given; send a file")
    return um_per_px


@contextmanager
def _sentences() -> Iterator[None]:
    """Return a user's mistake to the client as a sentence, without a traceback in the log."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(public_message(error), print_exception=False) from error


def found_cells(
    service: Service, picture: UploadedImage, prediction: "CellPrediction"
) -> list[dict[str, Any]] | None:
    """The cells of an image that is a field of view; None for an image of one cell."""
    from hf_wbc.inference.cell_prediction import is_field

    if not is_field(prediction.warnings):
        return None
    scale = prediction.scale_estimate or prediction.um_per_px
    found = service.predict_field(picture, scale, service.limits.num_cells)
    return [{**_place(cell), **_json(each)} for cell, each in found]


def _place(picture: UploadedImage) -> dict[str, Any]:
    """Where in its field a cell was found; empty for an image of one cell."""
    origin = picture.origin
    if origin is None:
        return {}
    return {
        "field": origin.picture.name,
        "x_px": round(origin.x_px, 1),
        "y_px": round(origin.y_px, 1),
        "flags": list(origin.flags),
    }


def _json(prediction: "CellPrediction") -> dict[str, Any]:
    """A prediction as plain JSON values."""
    return {
        "class": NAMES[prediction.label],
        "label": prediction.label,
        "probability": round(float(prediction.probabilities[prediction.label]), DIGITS),
        "probabilities": {
            name: round(float(p), DIGITS)
            for name, p in zip(NAMES, prediction.probabilities, strict=True)
        },
        "conformal_set": [NAMES[label] for label in prediction.conformal_set],
        "rejected": prediction.rejected,
        "lineage": {name: round(p, DIGITS) for name, p in prediction.lineage.items()},
        "um_per_px": prediction.um_per_px,
        "scale_guessed": prediction.scale_guessed,
        "box": list(prediction.box),
        "attributes": [
            {
                "name": each.attribute,
                "value": each.value,
                "probability": round(each.probability, DIGITS),
                "typical": each.is_typical,
            }
            for each in prediction.reasons
        ],
        "warnings": list(prediction.warnings),
    }
