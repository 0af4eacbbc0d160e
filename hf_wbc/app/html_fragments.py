"""HTML fragments from templates, with all values escaped, and images as data URIs."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.image_io import ImageFault, decode_rgb
from hf_wbc.data.nucleus import shrunk
from hf_wbc.plots.html import data_uri

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from hf_wbc.inference.cell_prediction import CellPrediction


FOLDER = Path(__file__).parent / "templates"
SHEETS = ("page", "review", "field_view")
SCRIPTS = (
    "page.js", "samples.js", "review_state.js", "review_view.js", "review_keys.js",
    "review_gallery.js", "field_view.js",
)  # fmt: skip
"""Scripts of the page's head, in the order of loading."""


def fragment(template: str, values: Mapping[str, Any]) -> str:
    """Render a template of this folder; a missing value is an error."""
    return _environment().get_template(template).render(**values)


def notice(text: str, kind: str = "note") -> str:
    """A framed sentence; `kind` is `note` or `warning`, which screen readers announce at once."""
    return fragment("notice.html", {"text": text, "kind": kind})


def style() -> str:
    """The page's style sheets."""
    return "".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in SHEETS)


def script(name: str) -> str:
    """A script of the page."""
    return (FOLDER / name).read_text(encoding="utf-8")


def page_head() -> str:
    """The page's style sheets and scripts, for its head."""
    return f"<style>{style()}</style>" + "".join(
        f"<script>{script(name)}</script>" for name in SCRIPTS
    )


def marked(text: str) -> "Markup":
    """Render a card's sentence with `**bold**` and back quotes as HTML.

    >>> str(marked("**Oracle.** The rule `snd`, x < y"))
    '<b>Oracle.</b> The rule <code>snd</code>, x &lt; y'
    """
    from markupsafe import Markup, escape

    safe = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", safe))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "marked": marked, "tojson_text": json.dumps}
    return made


def percent(value: float) -> str:
    """Format a fraction as percent with one decimal, and never as 0 or 100 unless it is.

    >>> [percent(value) for value in (0.934, 0.9996, 0.0002, 1.0)]
    ['93.4 %', '>99.9 %', '<0.1 %', '100.0 %']
    """
    if 0 < value < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %"


WHOLE_PX, SQUARE_PX, CARD_PX = 720, 320, 144
REDUCED = 3
"""Size from which an image is first reduced by averaging, relative to the shown size."""
HEAT = (255, 106, 0)


def full_image(pixels: NDArray[np.uint8]) -> str:
    """The whole image, at most `WHOLE_PX` wide and high."""
    return picture_uri(pixels, WHOLE_PX)


def picture_uri(pixels: NDArray[np.uint8], most_px: int) -> str:
    """An image as a data URI, at most `most_px` wide and high."""
    step = max(pixels.shape[:2]) / (REDUCED * most_px)
    if step > 1:  # Pillow would copy all of it
        pixels = shrunk(pixels, step).round().astype(np.uint8)
    return _uri(Image.fromarray(np.ascontiguousarray(pixels)), most_px)


def crop_image(
    pixels: NDArray[np.uint8], prediction: "CellPrediction", side_px: int = SQUARE_PX
) -> str:
    """The 25 um crop that the model saw."""
    return _uri(_square(pixels, prediction), side_px)


def card_image(pixels: NDArray[np.uint8], prediction: "CellPrediction") -> str:
    """The crop as a small image for a card of the gallery."""
    return _uri(_square(pixels, prediction), CARD_PX, quality=76)


def heat(
    pixels: NDArray[np.uint8], prediction: "CellPrediction", saliency: NDArray[np.float32]
) -> str:
    """The crop in gray, colored by saliency (size, size) in [0, 1]."""
    side = (SQUARE_PX, SQUARE_PX)
    gray = _square(pixels, prediction).convert("L").convert("RGB").resize(side)
    share = Image.fromarray((255 * 0.85 * saliency.clip(0, 1)).astype(np.uint8)).resize(side)
    return _uri(Image.composite(Image.new("RGB", side, HEAT), gray, share), SQUARE_PX)


def thumbnail(data: bytes) -> str:
    """A stored thumbnail as a data URI; empty if the model's reference set holds a damaged one."""
    try:
        return _uri(Image.fromarray(decode_rgb(data, "thumbnail")), CARD_PX)
    except ImageFault:
        return ""


def _square(pixels: NDArray[np.uint8], prediction: "CellPrediction") -> Image.Image:
    """Cut out the box; pixels outside the image get the color of its corner."""
    left, top, right, bottom = prediction.box
    square = Image.new("RGB", (right - left, bottom - top), tuple(int(v) for v in pixels[0, 0]))
    square.paste(Image.fromarray(np.ascontiguousarray(pixels)), (-left, -top))
    return square


def _uri(image: Image.Image, most_px: int, quality: int = 82) -> str:
    image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    return data_uri(image, "WEBP", quality=quality, method=2)
