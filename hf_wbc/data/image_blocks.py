"""Read image folders and prepared datasets block by block, as the squares that a model takes.

Images are cropped and resized by the same functions as in training, so that identical pixels get
identical predictions. Only one block is kept in memory and nothing is cached: these functions serve
a single pass over the images, whereas `hf_wbc.data.pixel_cache` serves repeated ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive import MAX_MEMBER_BYTES
from hf_wbc.data.archive_names import name_fault, printable_name
from hf_wbc.data.crop import Geometry, crop_and_resize, crop_side, cut_square
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.folder_walk import walk_folder
from hf_wbc.data.image_io import IMAGE_SUFFIXES, ImageFault, decode_rgb
from hf_wbc.data.image_statistics import MAX_COLOR_IMAGES, evenly_spaced
from hf_wbc.data.parallel import WorkerPool
from hf_wbc.data.pixel_cache import choose_num_processes
from hf_wbc.data.scale import ScaleEstimate, estimate_scale
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.data.table import Table
from hf_wbc.text import shorten_list

BATCH = 32
"""Images per job of a worker process."""
BLOCK = 320
"""Images held in memory at a time."""
FEWEST_PX = 24
"""Smallest side in pixels of a 25 um square that can show a cell."""
MAX_SCALE_IMAGES = 60
"""Images from which the scale of a folder is estimated."""
SAMPLE_BYTES = 2**28
"""Limit on the pixels held in memory to measure the colors of a folder."""


@dataclass(frozen=True)
class ImageFolder:
    """The images in a folder and its subfolders."""

    path: Path
    """Path of the folder."""
    names: tuple[str, ...]
    """POSIX paths within the folder, sorted."""
    skipped: tuple[str, ...]
    """Files that are hidden or have no image suffix; junk is not among them."""
    um_per_px: float | None
    """Scale of all images in um per pixel; None if each cell fills its frame."""
    notes: tuple[str, ...] = ()
    """What a summary should say about junk and links, a line each."""
    estimate: ScaleEstimate | None = None
    """The estimate that the scale is taken from; None if it was given."""
    cells: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    """Names that are cells of a field of view: the field's name, and x and y of the center in
    pixels."""


@dataclass(frozen=True)
class ImageBlock:
    """Consecutive images of a folder or dataset."""

    names: tuple[str, ...]
    """Names of the B valid images."""
    pixels: NDArray[np.uint8]
    """Squares (B, size, size, 3) of the valid images."""
    faults: tuple[str, ...]
    """One message for each invalid image, which names the image and the problem."""

    def table(self, name: str) -> Table:
        """Return the squares as unlabeled rows of the domain `name`.

        Raises:
            ValueError: If the block has no valid image.
        """
        return Table.unlabeled(self.pixels, self.names, name)


def list_images(path: Path, um_per_px: float | None, *, follow_links: bool = False) -> ImageFolder:
    """List the images in a folder and its subfolders.

    Args:
        path: Folder to search.
        um_per_px: Scale of all images in um per pixel; None if each cell fills its frame.
        follow_links: Also follow links that leave the folder; others are always followed.

    Raises:
        ValueError: If there are no images, a link leaves the folder, or a 25 um square has too few
            pixels at this scale.
    """
    if um_per_px is not None and (side := crop_side(um_per_px)) < FEWEST_PX:
        raise ValueError(
            f"um_per_px is {um_per_px}, at which 25 um are {side} px; if this is in pixels per um, "
            f"use {1 / um_per_px:.6g}"
        )
    listing = walk_folder(path, follow_outside=follow_links)
    if listing.outside and not follow_links:
        raise ValueError(
            f"{path}: links leave the folder: {shorten_list(listing.outside)}; pass --follow-links "
            "to read what they lead to, or remove them"
        )
    names: list[str] = []
    others: list[str] = []
    for name in listing.files:
        file = name.rpartition("/")[2]
        is_image = not file.startswith(".") and file.lower().endswith(IMAGE_SUFFIXES)
        (names if is_image else others).append(name)
    if not names:
        shown = shorten_list([printable_name(name) for name in others])
        held = "; ".join([f"it holds {shown}" if others else "it is empty", *listing.notes()])
        raise ValueError(
            f"{path} contains no images ({', '.join(IMAGE_SUFFIXES)}): {held}; give a folder of "
            "images, or one that `hf-wbc prepare` wrote"
        )
    skipped = tuple(map(printable_name, others))
    return ImageFolder(path, tuple(names), skipped, um_per_px, tuple(listing.notes()))


def read_blocks(
    folder: ImageFolder,
    geometry: Geometry,
    num_proc: int | None = None,
    numbers: Sequence[int] | None = None,
) -> Iterator[ImageBlock]:
    """Read the images of a folder in order, one block of `BLOCK` files at a time.

    An invalid image does not raise an error; it is reported in `ImageBlock.faults`.

    Args:
        folder: The images.
        geometry: Size of the squares and interpolation.
        num_proc: Number of processes; None uses all cores if there are many images.
        numbers: Indices of the blocks to read, in this order; None reads all.

    Yields:
        The requested blocks.
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
    """Return the number of blocks into which `num_images` images are divided."""
    return -(-num_images // BLOCK)


def sample_images(folder: ImageFolder, geometry: Geometry) -> Table:
    """Read evenly spaced images of a folder to measure its colors, skipping invalid ones.

    Args:
        folder: The images.
        geometry: Size of the squares and interpolation.

    Raises:
        ValueError: If all sampled images are invalid.
    """
    at_most = min(MAX_COLOR_IMAGES, max(1, SAMPLE_BYTES // (3 * geometry.size**2)))
    names = [folder.names[row] for row in evenly_spaced(len(folder.names), at_most)]
    block = _block(names, _squares((folder, geometry), names), geometry)
    if not block.names:
        raise ValueError(block.faults[0])
    return block.table(folder.path.name)


def estimate_folder_scale(folder: ImageFolder) -> ScaleEstimate:
    """Estimate the scale from the cells of evenly spaced images, skipping invalid ones.

    Raises:
        ValueError: If they show neither red cells nor nuclei of a plausible size.
    """
    images = []
    for row in evenly_spaced(len(folder.names), MAX_SCALE_IMAGES):
        with suppress(ImageFault):
            images.append(_decoded(folder, folder.names[row]))
    estimate = estimate_scale(images)
    if estimate.source == "default":
        raise ValueError(
            f"the scale of {folder.path} cannot be estimated: {len(images)} of its images show no "
            "red cell and no nucleus of a white blood cell's size; pass --um-per-px"
        )
    return estimate


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
    """Return the square of each image, or a message that says what is wrong with it."""
    found: list[NDArray[np.uint8] | str] = []
    for name in names:
        try:
            found.append(_square(state[0], name, state[1]))
        except ImageFault as error:
            reason = str(error).removeprefix(f"{name}: ")
            # Drop the remedy, which only applies to archives.
            found.append(f"{printable_name(name)}: {reason.partition('; ')[0]}")
    return found


def _square(folder: ImageFolder, name: str, geometry: Geometry) -> NDArray[np.uint8]:
    if name in folder.cells:
        return _square_in_field(folder, *folder.cells[name], geometry)
    pixels = _decoded(folder, name)
    try:
        return crop_and_resize(pixels, folder.um_per_px, geometry)
    except ValueError as error:
        raise ImageFault(f"{name}: {error}") from error


def _square_in_field(
    folder: ImageFolder, field: str, x: float, y: float, geometry: Geometry
) -> NDArray[np.uint8]:
    """Return the square around a place in a field of view."""
    assert folder.um_per_px is not None
    pixels = _field_pixels(folder.path, field)
    side = crop_side(folder.um_per_px, geometry.um)
    left, top = round(x - side / 2), round(y - side / 2)
    square = cut_square(pixels, (left, top, left + side, top + side))
    return crop_and_resize(square, None, geometry)


@lru_cache(maxsize=1)
def _field_pixels(path: Path, name: str) -> NDArray[np.uint8]:
    """Decode a field of view; the last one is kept, as its cells follow each other."""
    return read_image(path, name)


def _decoded(folder: ImageFolder, name: str) -> NDArray[np.uint8]:
    return read_image(folder.path, name)


def read_image(folder: Path, name: str) -> NDArray[np.uint8]:
    """Decode an image of a folder; raise ImageFault if it cannot be used."""
    return decode_rgb(read_image_bytes(folder, name), name)


def read_image_bytes(folder: Path, name: str) -> bytes:
    """Read a file that may be an image; raise ImageFault if it certainly is none."""
    if fault := name_fault(name):  # no table or JSON file can hold it
        raise ImageFault(f"{name}: {fault}")
    path = folder / name
    try:
        facts = path.stat()
        if not S_ISREG(facts.st_mode):  # reading a pipe could block forever
            raise ImageFault(f"{name}: not a file")
        if facts.st_size > MAX_MEMBER_BYTES:
            raise ImageFault(
                f"{name}: {facts.st_size:,} bytes are too large for an image of a cell"
            )
        return path.read_bytes()
    except OSError as error:
        raise ImageFault(f"{name}: cannot be read ({error.strerror})") from error


def read_dataset_blocks(
    domains: Sequence[DomainSplit], geometry: Geometry, numbers: Sequence[int], num_proc: int
) -> Iterator[ImageBlock]:
    """Read the given blocks of `BLOCK` rows of a prepared dataset.

    Args:
        domains: Splits whose rows are concatenated.
        geometry: Size of the squares and interpolation.
        numbers: Indices of the blocks to read, in this order.
        num_proc: Number of processes.

    Yields:
        The requested blocks.

    Raises:
        ValueError: If a row is not a valid image or is smaller than 25 um.
    """
    total = sum(map(len, domains))
    with WorkerPool(num_proc, (tuple(domains), geometry)) as workers:
        for number in numbers:
            rows = range(number * BLOCK, min((number + 1) * BLOCK, total))
            jobs = [(rows[first : first + BATCH],) for first in range(0, len(rows), BATCH)]
            found = workers.map(_read_row_batch, jobs)
            names = tuple(name for part in found for name in part[0])
            yield ImageBlock(names, np.concatenate([part[1] for part in found]), ())


def _read_row_batch(
    state: tuple[tuple[DomainSplit, ...], Geometry], rows: range
) -> tuple[list[str], NDArray[np.uint8]]:
    """Return the image ids and squares of the given rows."""
    domains, geometry = state
    names, found, first = [], [], 0
    for domain in domains:
        mine = range(max(rows.start - first, 0), min(rows.stop - first, len(domain)))
        first += len(domain)
        if not mine:
            continue
        columns = domain.dataset.with_format("arrow").select_columns(["image", "pixel_sha256"])
        for row, facts in zip(mine, columns[mine.start : mine.stop].to_pylist(), strict=True):
            found.append(_dataset_blocks_square(domain, row, facts, geometry))
            names.append(domain.image_ids[row])
    return names, np.stack(found)


def _dataset_blocks_square(
    domain: DomainSplit, row: int, facts: Mapping[str, Any], geometry: Geometry
) -> NDArray[np.uint8]:
    name = f"{domain.ref}: {domain.image_ids[row]}"
    pixels = decode_row(facts, name)
    try:
        return crop_and_resize(pixels, domain.um_per_px, geometry)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
