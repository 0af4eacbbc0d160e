"""Self-contained HTML pages: rendered templates with embedded images and no external resources.

Line drawings are lossless WebP with few colors, and scatter plots are lossy WebP, which all current
browsers support.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.shipped import shipped
from hf_wbc.text import with_spaces

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from PIL import Image

PICTURE_PX = 1500
"""Largest width of a drawing; it is displayed at half the size for high-density screens."""
POINTS_PX = 1200
"""Largest width of a scatter plot in pixels."""
QUALITY = 70
NUM_COLORS = 32


@dataclass(frozen=True)
class Picture:
    """An image embedded in a page."""

    uri: str
    """Data URI of the image."""
    width: int
    """Display width in CSS pixels, half of the image's width."""
    height: int
    """Display height in CSS pixels, half of the image's height."""
    alt: str
    """Alternative text."""


def render_page(
    template: str, filters: Mapping[str, Callable[..., Any]], values: Mapping[str, Any]
) -> str:
    """Render a shipped Jinja template with escaped values; undefined values raise an error.

    Args:
        template: Path of the template among the shipped files.
        filters: Filters by name, besides `code`, `percent` and `words`.
        values: Values of the template by name.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": code, "percent": percent, "words": with_spaces, **filters}
    text = shipped(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


def percent(share: float) -> str:
    """Format a fraction as a percentage, with one decimal below 10%."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def picture(figure: "Figure", alt: str, *, points: bool = False) -> Picture:
    """Convert a figure to an embedded image, deterministically.

    Args:
        figure: The figure.
        alt: Alternative text.
        points: Whether the figure is a scatter plot, which uses lossy compression.
    """
    image = _drawn(figure, POINTS_PX if points else PICTURE_PX)
    if points:
        uri = data_uri(image, "WEBP", quality=QUALITY)
    else:
        uri = data_uri(_few_colors(image), "WEBP", lossless=True, quality=100, method=4)
    return Picture(uri, image.width // 2, image.height // 2, alt)


def png(figure: "Figure") -> bytes:
    """Return a figure as the content of a PNG file, deterministically."""
    return _encoded(_few_colors(_drawn(figure, PICTURE_PX)), "PNG", optimize=True)


def _drawn(figure: "Figure", widest: int) -> "Image.Image":
    from PIL import Image

    from hf_wbc.plots.style import default_settings

    drawn = io.BytesIO()
    dpi = min(200, widest / figure.get_figwidth())
    with default_settings():
        figure.savefig(drawn, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return Image.open(drawn, formats=("PNG",)).convert("RGB")


def _few_colors(image: "Image.Image") -> "Image.Image":
    """Reduce an image to its most frequent colors; antialiased edges get the nearest of them.

    Pillow's own palettes would turn white into pale gray.
    """
    from PIL import Image

    pixels = np.asarray(image).astype(np.int32)
    packed = (pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]).ravel()
    colors, place, counts = np.unique(packed, return_inverse=True, return_counts=True)
    parts = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], 1)
    kept = parts[np.argsort(-counts, kind="stable")[:NUM_COLORS]]
    distances = ((parts[:, None] - kept) ** 2).sum(-1)
    nearest = distances.argmin(1).astype(np.uint8)
    flat = Image.fromarray(nearest[place].reshape(pixels.shape[:2]), "P")
    flat.putpalette(kept.astype(np.uint8).tobytes())
    return flat


def data_uri(image: "Image.Image", kind: str, **options: Any) -> str:
    """Return an image as a data URI without metadata."""
    bytes_ = base64.b64encode(_encoded(image, kind, **options)).decode()
    return f"data:image/{kind.lower()};base64,{bytes_}"


def _encoded(image: "Image.Image", kind: str, **options: Any) -> bytes:
    bare, buffer = image.copy(), io.BytesIO()
    bare.info = {}  # otherwise Pillow copies an existing comment
    bare.save(buffer, kind, **options)
    return buffer.getvalue()


def code(sentence: str) -> "Markup":
    """Escape a sentence and set text in `backticks` as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))
