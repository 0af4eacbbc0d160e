"""Archives of drawn images in the layout of a source."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw_images() -> Callable[[Path, Iterable[str]], Path]:
    """Write an image of random pixels, 16 px wide, for each name below a folder."""

    def draw(folder: Path, names: Iterable[str]) -> Path:
        rng = np.random.default_rng(0)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name)
        return folder

    return draw
