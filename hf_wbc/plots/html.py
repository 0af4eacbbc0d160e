"""A page in one file: its template rendered, its pictures inside; it loads nothing.

Drawings are WebP of few colours, without loss, clouds of points with some; every browser shows it.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.shipped import shipped

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from PIL import Image

PICTURE_PX = 1500
"""Widest drawing; a page shows it at half, for screens of two dots a pixel."""
POINTS_PX = 1200
QUALITY = 70
NUM_COLOURS = 32


@dataclass(frozen=True)
class Picture:
    """A picture in a page."""

    uri: str
    width: int
    """On the page, in CSS pixels; a screen of two dots a pixel shows all that is in it."""
    height: int
    alt: str
    """What it shows, for those who cannot see it."""


def render_page(
    template: str, filters: Mapping[str, Callable[..., Any]], values: Mapping[str, Any]
) -> str:
    """A shipped template with its values, escaped; a missing one is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": code, **filters}
    text = shipped(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


def picture(figure: "Figure", alt: str, *, points: bool = False) -> Picture:
    """A figure as part of a page; the same figure gives the same bytes.

    `points` is a cloud of points, which would be large without loss.
    """
    image = _drawn(figure, POINTS_PX if points else PICTURE_PX)
    if points:
        uri = data_uri(image, "WEBP", quality=QUALITY)
    else:
        uri = data_uri(_few_colours(image), "WEBP", lossless=True, quality=100, method=4)
    return Picture(uri, image.width // 2, image.height // 2, alt)


def png(figure: "Figure") -> bytes:
    """A figure as a file beside a page; the same figure gives the same bytes."""
    return _encoded(_few_colours(_drawn(figure, PICTURE_PX)), "PNG", optimize=True)


def _drawn(figure: "Figure", widest: int) -> "Image.Image":
    from PIL import Image

    drawn = io.BytesIO()
    dpi = min(200, widest / figure.get_figwidth())
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return Image.open(drawn).convert("RGB")


def _few_colours(image: "Image.Image") -> "Image.Image":
    """A drawing in its most frequent colours: surfaces keep theirs, soft edges get the nearest.

    Pillow's own palettes turn white into a pale grey.
    """
    from PIL import Image

    pixels = np.asarray(image).astype(np.int32)
    packed = (pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]).ravel()
    colours, place, counts = np.unique(packed, return_inverse=True, return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)
    kept = parts[np.argsort(-counts, kind="stable")[:NUM_COLOURS]]
    distances = ((parts[:, None] - kept) ** 2).sum(-1)
    nearest = distances.argmin(1).astype(np.uint8)
    flat = Image.fromarray(nearest[place].reshape(pixels.shape[:2]), "P")
    flat.putpalette(kept.astype(np.uint8).tobytes())
    return flat


def data_uri(image: "Image.Image", kind: str, **options: Any) -> str:
    """An image's bytes as a URI, without any metadata."""
    bytes_ = base64.b64encode(_encoded(image, kind, **options)).decode()
    return f"data:image/{kind.lower()};base64,{bytes_}"


def _encoded(image: "Image.Image", kind: str, **options: Any) -> bytes:
    bare, buffer = image.copy(), io.BytesIO()
    bare.info = {}  # Pillow would write a comment on
    bare.save(buffer, kind, **options)
    return buffer.getvalue()


def code(sentence: str) -> "Markup":
    """A sentence whose `names` are set as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))
