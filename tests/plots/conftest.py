"""What all pictures must keep: every label inside the picture, none over another."""

import itertools
from collections.abc import Callable

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture
def legible() -> Callable[[Figure], list[str]]:
    """Asserts that a figure's labels are whole and apart; what they say, from the first to last."""
    return _legible


def _legible(figure: Figure) -> list[str]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = {t: t.get_window_extent(canvas.get_renderer()) for t in labels}
    for label, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0
        inside &= box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert inside, f"{label.get_text()!r} is cut off"
    upright = [(t, b.padded(-1)) for t, b in boxes.items() if not t.get_rotation()]
    for (one, a), (other, b) in itertools.combinations(upright, 2):
        assert not a.overlaps(b), f"{one.get_text()!r} lies over {other.get_text()!r}"
    return [label.get_text() for label in labels]
