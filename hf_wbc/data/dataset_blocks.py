"""The images of a prepared dataset as a model takes them, some at a time, with nothing kept.

For whoever looks at every image once: `hf_wbc.data.pixels` keeps what will be looked at again.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.domain import Domain
from hf_wbc.data.image_folder import BATCH, BLOCK, Block
from hf_wbc.data.images import decode_rgb
from hf_wbc.data.square import Geometry, square
from hf_wbc.data.workers import Workers


def read_dataset_blocks(
    domains: Sequence[Domain], geometry: Geometry, numbers: Sequence[int], num_proc: int
) -> Iterator[Block]:
    """Of the blocks of `BLOCK` rows those that are named, in that order, by so many processes.

    The rows of several splits follow each other. ValueError names a row that is no image, or is
    smaller than 25 um.
    """
    total = sum(map(len, domains))
    with Workers(num_proc, (tuple(domains), geometry)) as workers:
        for number in numbers:
            rows = range(number * BLOCK, min((number + 1) * BLOCK, total))
            jobs = [(rows[first : first + BATCH],) for first in range(0, len(rows), BATCH)]
            found = workers.map(_squares, jobs)
            names = tuple(name for part in found for name in part[0])
            yield Block(names, np.concatenate([part[1] for part in found]), ())


def _squares(
    state: tuple[tuple[Domain, ...], Geometry], rows: range
) -> tuple[list[str], NDArray[np.uint8]]:
    """Image ids and squares of some rows."""
    domains, geometry = state
    names, found, first = [], [], 0
    for domain in domains:
        mine = range(max(rows.start - first, 0), min(rows.stop - first, len(domain)))
        first += len(domain)
        if not mine:
            continue
        images = domain.dataset.with_format("arrow")[mine.start : mine.stop]["image"].to_pylist()
        for row, image in zip(mine, images, strict=True):
            found.append(_square(domain, row, image["bytes"], geometry))
            names.append(domain.image_ids[row])
    return names, np.stack(found)


def _square(domain: Domain, row: int, data: bytes | None, geometry: Geometry) -> NDArray[np.uint8]:
    name = f"{domain.ref}: {domain.image_ids[row]}"
    if data is None:
        raise ValueError(f"{name} is only a path to an image; embed the image's bytes")
    pixels = decode_rgb(data, name)
    try:
        return square(pixels, domain.um_per_px, geometry)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
