"""An embedded figure keeps the colors of its surfaces and contains nothing else."""

import base64
import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

from hf_wbc.plots import html
from hf_wbc.plots.html import data_uri, picture, render_page


def figure(width: float = 9.0) -> Figure:
    made = Figure(figsize=(width, 3))
    axes = made.add_axes((0, 0, 0.5, 1))
    axes.axis("off")
    axes.set_facecolor("white")
    axes.imshow(np.full((2, 2, 3), (214, 39, 40), np.uint8), aspect="auto")
    return made


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_figure_and_background_keep_their_colors():
    image = decoded(picture(figure(), "red").uri).convert("RGB")
    assert image.getpixel((20, 20)) == (214, 39, 40)
    assert image.getpixel((image.width - 5, 20)) == (255, 255, 255)


def test_wide_figure_is_limited_to_page_width_and_shown_at_half():
    found = picture(figure(30), "red")
    assert decoded(found.uri).width == html.PICTURE_PX
    assert found.width == html.PICTURE_PX // 2


@pytest.mark.parametrize("points", [False, True])
def test_same_figure_gives_same_bytes(points):
    assert picture(figure(), "", points=points).uri == picture(figure(), "", points=points).uri


def test_image_metadata_is_dropped():
    image = Image.new("RGB", (8, 8))
    image.info["comment"] = b"a patient's name"
    image.getexif()[0x010E] = "a patient's name"
    for kind in ("PNG", "WEBP", "JPEG"):
        data = base64.b64decode(data_uri(image, kind).partition(",")[2])
        assert b"patient" not in data


def test_values_are_escaped_and_missing_one_is_an_error(tmp_path, monkeypatch):
    template = tmp_path / "page.html"
    template.write_text("<p>{{ name }}</p><p>{{ words | code }}</p>")
    monkeypatch.setattr(html, "shipped", lambda name: template)
    found = render_page("page.html", {}, {"name": "<b>", "words": "use `--out` & <i>"})
    assert found == "<p>&lt;b&gt;</p><p>use <code>--out</code> &amp; &lt;i&gt;</p>"
    with pytest.raises(UndefinedError):
        render_page("page.html", {}, {"name": "<b>"})
