"""Example cells of each class of a dataset, for sample sheets."""

from collections.abc import Iterator

import numpy as np

from hf_wbc.data.dataset import load_split
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.plots.sample_sheet import Frame
from hf_wbc.taxonomy import NAMES


def example_frames(ref: str, per_class: int, split: str = "train") -> Iterator[Frame]:
    """Yield the first `per_class` whole frames of each class, in the order of the classes."""
    domain = load_split(ref, split, "original")
    for label, name in enumerate(NAMES):
        for row in np.flatnonzero(domain.labels == label)[:per_class]:
            cell = domain.dataset.with_format("arrow")[int(row)].to_pylist()[0]
            pixels = decode_rgb(cell["image"]["bytes"], f"{ref}: {cell['image_id']}")
            yield Frame(pixels, name, domain.name, cell["um_per_px"])
