"""A folder of plain images: their names, and the squares of them that a model takes in.

What is cropped and resized here is cropped and resized by the same functions as in a prepared
dataset, so that the same pixels get the same answer. A few hundred images are held at a time.

The images of a prepared dataset as a model takes them, some at a time, with nothing kept.

For a single pass over all images; `hf_wbc.data.pixel_cache` is for repeated ones.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive import MAX_MEMBER_BYTES
from hf_wbc.data.crop import Geometry, crop_and_resize, crop_side
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.image_io import IMAGE_SUFFIXES, ImageFault, decode_rgb
from hf_wbc.data.image_statistics import MAX_COLOR_IMAGES, evenly_spaced
from hf_wbc.data.parallel import WorkerPool
from hf_wbc.data.pixel_cache import choose_num_processes
from hf_wbc.data.table import Table
from hf_wbc.text import shorten_list

BATCH = 32
"""Images of a job."""
BLOCK = 320
"""Images that are held at a time."""
FEWEST_PX = 24
"""A square of 25 um with fewer pixels a side shows no cell: the scale is wrong."""
SAMPLE_BYTES = 2**28
"""Pixels that are held to measure a folder's colours."""


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder and its subfolders."""

    path: Path
    names: tuple[str, ...]
    """POSIX paths within the folder, sorted."""
    skipped: tuple[str, ...]
    """Files that are hidden or no image by their suffix, which are passed over."""
    um_per_px: float | None
    """Scale of all of them; None where the cell fills the frame."""


@dataclass(frozen=True)
class ImageBlock:
    """Some images of a folder, in order."""

    names: tuple[str, ...]
    """Of the B images that are whole."""
    pixels: NDArray[np.uint8]
    """Their squares (B, size, size, 3)."""
    faults: tuple[str, ...]
    """What is wrong with the others, naming them."""

    def table(self, name: str) -> Table:
        """Its squares as unlabelled rows of the domain `name`; ValueError where there are none."""
        return Table.unlabeled(self.pixels, self.names, name)


def list_images(path: Path, um_per_px: float | None) -> ImageFolder:
    """The images in `path`, whose scale is `um_per_px`, None where each cell fills its frame.

    ValueError when there are none, and for a scale at which 25 um cannot be a cell.
    """
    if um_per_px is not None and (side := crop_side(um_per_px)) < FEWEST_PX:
        raise ValueError(
            f"um_per_px is {um_per_px}, at which 25 um are {side} px; if these are pixels per um, "
            f"give {1 / um_per_px:.6g}"
        )
    names: list[str] = []
    others: list[str] = []
    for root, _, files in os.walk(path):
        for file in files:
            name = (Path(root) / file).relative_to(path).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            is_image = not hidden and file.lower().endswith(IMAGE_SUFFIXES)
            (names if is_image else others).append(name)
    if not names:
        held = f"it holds {shorten_list(sorted(others))}" if others else "it is empty"
        raise ValueError(
            f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)}): {held}; give a folder of "
            "images, or one that `hf-wbc prepare` wrote"
        )
    return ImageFolder(path, tuple(sorted(names)), tuple(sorted(others)), um_per_px)


def read_blocks(
    folder: ImageFolder,
    geometry: Geometry,
    num_proc: int | None = None,
    numbers: Sequence[int] | None = None,
) -> Iterator[ImageBlock]:
    """All images in order, `BLOCK` files at a time; a bad one is a fault of its block.

    `num_proc` None takes every core where the images are many; `numbers` names the blocks that are
    wanted, in that order.
    """
    num = choose_num_processes(len(folder.names), num_proc) or 1
    wanted = range(num_blocks(len(folder.names))) if numbers is None else numbers
    with WorkerPool(num, (folder, geometry)) as workers:
        for start in (number * BLOCK for number in wanted):
            names = folder.names[start : start + BLOCK]
            jobs = [(names[first : first + BATCH],) for first in range(0, len(names), BATCH)]
            found = [square for part in workers.map(_squares, jobs) for square in part]
            yield _block(names, found, geometry)


def num_blocks(num_images: int) -> int:
    """In how many blocks so many images are read."""
    return -(-num_images // BLOCK)


def sample_images(folder: ImageFolder, geometry: Geometry) -> Table:
    """Evenly spaced images of the folder, without the bad ones, to measure its colours.

    ValueError when all of them are bad.
    """
    at_most = min(MAX_COLOR_IMAGES, max(1, SAMPLE_BYTES // (3 * geometry.size**2)))
    names = [folder.names[row] for row in evenly_spaced(len(folder.names), at_most)]
    block = _block(names, _squares((folder, geometry), names), geometry)
    if not block.names:
        raise ValueError(block.faults[0])
    return block.table(folder.path.name)


def _block(
    names: Sequence[str], found: Sequence[NDArray[np.uint8] | str], geometry: Geometry
) -> ImageBlock:
    whole = {n: f for n, f in zip(names, found, strict=True) if not isinstance(f, str)}
    faults = tuple(fault for fault in found if isinstance(fault, str))
    pixels = np.empty((len(whole), geometry.size, geometry.size, 3), np.uint8)
    for row, one in enumerate(whole.values()):
        pixels[row] = one
    return ImageBlock(tuple(whole), pixels, faults)


def _squares(
    state: tuple[ImageFolder, Geometry], names: Sequence[str]
) -> list[NDArray[np.uint8] | str]:
    """The squares of some images, or what is wrong with each."""
    found: list[NDArray[np.uint8] | str] = []
    for name in names:
        try:
            found.append(_square(state[0], name, state[1]))
        except ImageFault as error:
            reason = str(error).removeprefix(f"{name}: ")
            found.append(f"{name}: {reason.partition('; ')[0]}")  # the remedy is of an archive
    return found


def _square(folder: ImageFolder, name: str, geometry: Geometry) -> NDArray[np.uint8]:
    path = folder.path / name
    try:
        facts = path.stat()
        if not S_ISREG(facts.st_mode):  # a pipe, which would be waited for without end
            raise ImageFault(f"{name}: is no file")
        if facts.st_size > MAX_MEMBER_BYTES:
            raise ImageFault(f"{name}: {facts.st_size:,} bytes are too many for a cell's image")
        data = path.read_bytes()
    except OSError as error:
        raise ImageFault(f"{name}: cannot be read ({error.strerror})") from error
    pixels = decode_rgb(data, name)
    try:
        return crop_and_resize(pixels, folder.um_per_px, geometry)
    except ValueError as error:
        raise ImageFault(f"{name}: {error}") from error


def read_dataset_blocks(
    domains: Sequence[DomainSplit], geometry: Geometry, numbers: Sequence[int], num_proc: int
) -> Iterator[ImageBlock]:
    """Of the blocks of `BLOCK` rows those that are named, in that order, by so many processes.

    The rows of several splits follow each other. ValueError names a row that is no image, or is
    smaller than 25 um.
    """
    total = sum(map(len, domains))
    with WorkerPool(num_proc, (tuple(domains), geometry)) as workers:
        for number in numbers:
            rows = range(number * BLOCK, min((number + 1) * BLOCK, total))
            jobs = [(rows[first : first + BATCH],) for first in range(0, len(rows), BATCH)]
            found = workers.map(_dataset_blocks_squares, jobs)
            names = tuple(name for part in found for name in part[0])
            yield ImageBlock(names, np.concatenate([part[1] for part in found]), ())


def _dataset_blocks_squares(
    state: tuple[tuple[DomainSplit, ...], Geometry], rows: range
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
            found.append(_dataset_blocks_square(domain, row, image["bytes"], geometry))
            names.append(domain.image_ids[row])
    return names, np.stack(found)


def _dataset_blocks_square(
    domain: DomainSplit, row: int, data: bytes | None, geometry: Geometry
) -> NDArray[np.uint8]:
    name = f"{domain.ref}: {domain.image_ids[row]}"
    if data is None:
        raise ValueError(f"{name} is only a path to an image; embed the image's bytes")
    pixels = decode_rgb(data, name)
    try:
        return crop_and_resize(pixels, domain.um_per_px, geometry)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
