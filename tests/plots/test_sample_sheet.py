"""A sample sheet shows each frame at its scale, with its 25 um square."""

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from hf_wbc.plots.class_names import wrapped_name
from hf_wbc.plots.sample_sheet import Frame, draw_sample_sheet


def frame(label="monocyte", domain="toy_a", um_per_px=1.0, shape=(36, 36), gray=100):
    return Frame(np.full((*shape, 3), gray, np.uint8), label, domain, um_per_px)


def images(figure):
    return figure.axes[0].findobj(AxesImage)


def squares(figure):
    return [box for box in figure.axes[0].findobj(Rectangle) if not box.get_fill()]


def test_sheet_labels_its_contents(legible):
    frames = [frame(), frame("lymphocyte_typical"), frame(domain="toy_b")]
    words = legible(draw_sample_sheet(frames))
    assert {
        "monocyte",
        wrapped_name("lymphocyte_typical"),
        "toy_a",
        "toy_b",
        "10 µm",
        "square 25 µm",
    } <= set(words)
    assert words.count("none") == 1


def test_squares_have_equal_size_at_all_scales_but_frames_do_not():
    figure = draw_sample_sheet(
        [frame(um_per_px=0.1, shape=(360, 360)), frame(um_per_px=0.08, shape=(360, 360))]
    )
    assert len({round(box.get_width(), 9) for box in squares(figure)}) == 1
    widths = [image.get_extent()[1] - image.get_extent()[0] for image in images(figure)]
    assert widths[1] / widths[0] == pytest.approx(0.8)
    assert squares(figure)[0].get_width() / widths[0] == pytest.approx(25 / 36)


def test_frames_are_paled_only_outside_the_square():
    pixels = images(draw_sample_sheet([frame(shape=(37, 36))]))[0].get_array()
    assert pixels.shape == (37, 36, 3)
    inside = (pixels == 100).all(-1)
    height, width = inside.any(1).sum(), inside.any(0).sum()
    assert inside.sum() == height * width
    assert abs(height - 25) <= 1 and abs(width - 25) <= 1
    assert (pixels[~inside] > 100).all()


def test_input_pixels_are_unchanged():
    given = frame()
    draw_sample_sheet([given])
    assert (given.pixels == 100).all()


def test_frame_of_unknown_scale_is_drawn_without_a_square(legible):
    figure = draw_sample_sheet([frame(um_per_px=None, shape=(120, 90))])
    assert not squares(figure)
    assert (images(figure)[0].get_array() == 100).all()
    words = legible(figure)
    assert "scale unknown" in words
    assert "10 µm" not in words


def test_per_class_limits_the_frames():
    figure = draw_sample_sheet([frame(gray=i) for i in range(9)], per_class=3)
    assert [int(image.get_array()[18, 18, 0]) for image in images(figure)] == [0, 1, 2]


def test_rows_follow_lineage_order(legible):
    words = legible(
        draw_sample_sheet([frame("lymphocyte_typical"), frame("monocyte"), frame("basophil")])
    )
    order = [
        words.index(name) for name in ("basophil", "monocyte", wrapped_name("lymphocyte_typical"))
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("per_class", [1, 12])
def test_few_and_many_columns_stay_legible(legible, per_class):
    frames = [frame(domain=domain) for domain in ("toy_a", "toy_b") for _ in range(per_class)]
    assert "toy_b" in legible(draw_sample_sheet(frames, per_class=per_class))


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "no frame"),
        ([frame("monocite")], {}, "did you mean 'monocyte'"),
        ([frame(um_per_px=0.0)], {}, "um_per_px 0.0"),
        ([frame(um_per_px=float("nan"))], {}, "um_per_px nan"),
        (
            [Frame(np.zeros((9, 9), np.uint8), "monocyte", "toy", 1.0)],
            {},
            r"shape \(9, 9\), not RGB",
        ),
        ([frame()], {"per_class": 0}, "per_class is 0"),
    ],
)
def test_bad_frames_are_reported(frames, options, message):
    with pytest.raises(ValueError, match=message):
        draw_sample_sheet(frames, **options)
