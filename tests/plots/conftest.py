"""Requirements on all figures: every label inside the figure, none overlapping another."""

import itertools
from collections.abc import Callable

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture
def legible() -> Callable[[Figure], list[str]]:
    """Assert that labels are complete and do not overlap; return their text in order."""
    return _legible


def _legible(figure: Figure) -> list[str]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    unseen = _out_of_view(figure)
    labels = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    labels = [t for t in labels if t not in unseen]
    boxes = {t: t.get_window_extent(canvas.get_renderer()) for t in labels}
    for label, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0
        inside &= box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert inside, f"{label.get_text()!r} is cut off"
    upright = [(t, b.padded(-1)) for t, b in boxes.items() if not t.get_rotation()]
    for (one, a), (other, b) in itertools.combinations(upright, 2):
        assert not a.overlaps(b), f"{one.get_text()!r} lies over {other.get_text()!r}"
    return [label.get_text() for label in labels]


def _out_of_view(figure: Figure) -> set[Text]:
    """Return tick labels beyond the axis limits, which are not drawn."""
    return {
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
