"""A page in one file: its template rendered, its pictures inside; it loads nothing.

Pictures are WebP, which every browser shows: drawings without loss, photographs and clouds of
points with little.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_wbc.shipped import shipped

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from PIL import Image

PICTURE_PX = 1500
"""Widest picture; a page shows it at half, for screens of two dots a pixel."""
POINTS_PX = 1200
QUALITY = 80


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
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    image = Image.open(drawn).convert("RGB")
    widest = POINTS_PX if points else PICTURE_PX
    image.thumbnail((widest, widest * 4), Image.Resampling.LANCZOS)
    if points:
        uri = data_uri(image, "WEBP", quality=QUALITY, method=6)
    else:
        flat = image.quantize(128, dither=Image.Dither.NONE).convert("RGB")
        uri = data_uri(flat, "WEBP", lossless=True, quality=70, method=4)
    return Picture(uri, image.width // 2, image.height // 2, alt)


def data_uri(image: "Image.Image", kind: str, **options: Any) -> str:
    """An image's bytes as a URI, without any metadata."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def code(sentence: str) -> "Markup":
    """A sentence whose `names` are set as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))
