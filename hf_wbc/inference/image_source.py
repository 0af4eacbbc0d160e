"""Images to be answered, from a folder or a prepared dataset, behind one face.

Their treatment is the one that the model's rule asks for: measured on a folder's own images, or on
a dataset's training split.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.dataset import load_splits
from hf_wbc.data.image_blocks import (
    ImageBlock,
    ImageFolder,
    list_images,
    read_blocks,
    read_dataset_blocks,
    sample_images,
)
from hf_wbc.data.pixel_cache import choose_num_processes
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.schema import DEFAULT_CONFIG
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.features import crop_geometry
from hf_wbc.models import PretrainedModel

Read = Callable[[Sequence[int]], Iterator[ImageBlock]]
"""From the numbers of blocks to the blocks."""
_HOW = (
    "give --um-per-px, or --source for a known laboratory's, or --cell-fills-frame when each image "
    "is one cell, cut out"
)


@dataclass(frozen=True, eq=False)
class ImageSource:
    """N images, read in blocks."""

    num_images: int
    read: Read
    how: ImagePreprocessing
    size: int
    """Side of a square in pixels."""
    listing: str
    """Digest of what the images are; it changes when any of them does."""
    facts: dict[str, Any]
    """Of the data and its treatment; plain JSON values."""
    labels: NDArray[np.int64] | None = None
    """(N,), where they are known."""
    passed_over: tuple[str, ...] = ()
    """Files of a folder that are no images."""


def find_image_folder(
    ref: str, um_per_px: float | None, cell_fills_frame: bool
) -> ImageFolder | None:
    """The folder of images, or None for a dataset; ValueError for a scale too few or too many."""
    if um_per_px is not None and cell_fills_frame:
        raise ValueError(
            f"um_per_px is {um_per_px} and the cell is said to fill the frame; choose one"
        )
    path = Path(ref)
    if not path.is_dir() or any((path / DEFAULT_CONFIG).glob("*.parquet")):
        if um_per_px is not None:
            raise ValueError(f"{ref} is a dataset and has its own scale; leave out um_per_px")
        return None
    if um_per_px is None and not cell_fills_frame:
        raise ValueError(f"nothing says how many um a pixel of {ref} is; {_HOW}")
    return list_images(path, um_per_px)


def folder_source(
    loaded: PretrainedModel, folder: ImageFolder, num_proc: int | None
) -> ImageSource:
    """A folder's images, bad ones among them."""
    geometry, rule, preprocessing = crop_geometry(loaded), loaded.rule, loaded.preprocessing
    measured = sample_images(folder, geometry) if rule.needs_images else None
    how = rule.fit(measured, preprocessing.mean, preprocessing.std)
    images: dict[str, Any] = {"rule": rule.to_dict(), "treatment": how.to_dict()}
    if measured is not None:
        images["measured_on"] = {"num_images": len(measured)}

    def read(numbers: Sequence[int]) -> Iterator[ImageBlock]:
        return read_blocks(folder, geometry, num_proc, numbers)

    return ImageSource(
        num_images=len(folder.names),
        read=read,
        how=how,
        size=geometry.size,
        listing=_listing(folder),
        facts={"data": {"um_per_px": folder.um_per_px}, "images": images},
        passed_over=folder.skipped,
    )


def _listing(folder: ImageFolder) -> str:
    """Digest of the files' names, sizes and times."""
    found = hashlib.sha256()
    for name in folder.names:
        path = folder.path / name
        try:
            stat = path.stat()
            facts = [name, stat.st_size, stat.st_mtime_ns]
        except OSError:  # a fault, which is named when it is read
            facts = [name]
        found.update(json.dumps(facts).encode() + b"\n")
    return found.hexdigest()


def dataset_source(
    loaded: PretrainedModel,
    ref: str,
    splits: Sequence[str],
    cell_fills_frame: bool,
    num_proc: int | None,
) -> ImageSource:
    """Splits of a prepared folder or a Hub dataset, one after the other."""
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits are {', '.join(splits) or 'none'}; name each once with --splits")
    domains = load_splits(ref, splits)
    first, geometry = domains[0], crop_geometry(loaded)
    if first.um_per_px is None and not cell_fills_frame:
        raise ValueError(
            f"{ref} has no scale (um_per_px is null): its cells fill the frame; "
            "pass --cell-fills-frame to use it all the same"
        )
    how, images = preprocessing_for(loaded, ref)
    total = sum(map(len, domains))
    num = choose_num_processes(total, num_proc) or 1
    data = {
        "name": first.name,
        "revision": first.revision,
        "um_per_px": first.um_per_px,
        **{domain.split: domain.fingerprint for domain in domains},
    }
    return ImageSource(
        num_images=total,
        read=lambda numbers: read_dataset_blocks(domains, geometry, numbers, num),
        how=how,
        size=geometry.size,
        listing="",  # the fingerprints are among the facts
        facts={"data": data, "images": images},
        labels=np.concatenate([domain.labels for domain in domains]),
    )
