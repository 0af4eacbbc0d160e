"""Read the images to predict, from a folder or a prepared dataset, through one interface.

Their preprocessing follows the model's rule: it is measured on the folder's own images, or on the
dataset's training split.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive_names import is_readable, name_faults, printable_name
from hf_wbc.data.dataset import load_splits, no_images
from hf_wbc.data.image_blocks import (
    ImageBlock,
    ImageFolder,
    estimate_folder_scale,
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
from hf_wbc.inference.fields_in_folder import replace_fields
from hf_wbc.inference.options import PredictOptions
from hf_wbc.models import PretrainedModel
from hf_wbc.preparation.folder_layout import FolderLayout
from hf_wbc.text import shorten_list

__all__ = ["ImageSource", "dataset_source", "find_image_folder", "folder_source"]

ReadBlocks = Callable[[Sequence[int]], Iterator[ImageBlock]]
"""Maps block numbers to the blocks."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """N images, read in blocks."""

    num_images: int
    read: ReadBlocks
    preprocessing: ImagePreprocessing
    size: int
    """Side of a crop in pixels."""
    fingerprint: str
    """Digest of a folder's files, which changes when a file does; empty for a dataset."""
    metadata: dict[str, Any]
    """Facts about the data and its preprocessing; plain JSON values."""
    labels: NDArray[np.int64] | None = None
    """Labels (N,) of a dataset."""
    skipped_files: tuple[str, ...] = ()
    """Files of a folder that are not images."""
    notes: tuple[str, ...] = ()
    """What a summary should say about junk and links in a folder, a line each."""


def find_image_folder(ref: str, options: PredictOptions) -> ImageFolder | None:
    """List the images of a folder; None if `ref` is a dataset.

    Raises:
        ValueError: For a folder without a scale, with two contradicting options or, unless they may
            be skipped, with file names that are not text; for a dataset with a scale, as it has its
            own.
    """
    um_per_px, cell_fills_frame = options.um_per_px, options.cell_fills_frame
    if um_per_px is not None and cell_fills_frame:
        raise ValueError(
            f"both um_per_px {um_per_px} and cell_fills_frame are given; choose one of them"
        )
    if options.estimate_scale and (um_per_px is not None or cell_fills_frame):
        raise ValueError("estimate_scale excludes um_per_px and cell_fills_frame; choose one")
    path = Path(ref)
    if not path.is_dir() or any((path / DEFAULT_CONFIG).glob("*.parquet")):
        if um_per_px is not None:
            raise ValueError(f"{ref} is a dataset and has its own scale; leave out um_per_px")
        if options.estimate_scale:
            raise ValueError(f"{ref} is a dataset and has its own scale; leave out estimate_scale")
        if options.layout is not None:
            raise ValueError(f"{ref} is a dataset and has its own groups; leave out layout")
        return None
    if options.estimate_scale:
        folder = _in_layout(list_images(path, None, follow_links=options.follow_links), options)
        estimate = estimate_folder_scale(folder)
        folder = replace(folder, um_per_px=estimate.um_per_px, estimate=estimate)
        return folder if options.center_only else replace_fields(folder)
    if um_per_px is None and not cell_fills_frame:
        raise ValueError(
            f"the scale of the images in {ref} is unknown; pass --um-per-px, --source for the "
            "scale of a known laboratory, --estimate-scale to measure its red cells, or "
            "--cell-fills-frame if each image is cropped around one cell"
        )
    found = _in_layout(list_images(path, um_per_px, follow_links=options.follow_links), options)
    bad = [name for name in found.names if not is_readable(name)]
    if bad and not options.skip_bad:
        raise ValueError(
            f"{len(bad)} of {len(found.names)} file names {name_faults(bad)}: "
            f"{shorten_list([*map(printable_name, bad)])}; rename the files, or leave them out "
            "with --skip-bad"
        )
    return found if cell_fills_frame or options.center_only else replace_fields(found)


def _in_layout(folder: ImageFolder, options: PredictOptions) -> ImageFolder:
    """Keep the images that lie in the folders of a layout; ValueError if there are none."""
    if options.layout is None:
        return folder
    layout = FolderLayout(options.layout)
    names = tuple(name for name in folder.names if layout.match(name) is not None)
    if not names:
        raise ValueError(
            f"none of the {len(folder.names)} images in {folder.path} lies in the layout "
            f"{options.layout}: {shorten_list(folder.names, 3)}"
        )
    num = len(folder.names) - len(names)
    note = f"{num:,} images outside the layout {options.layout} were left out"
    notes = (*folder.notes, *([note] if num else []))
    return replace(folder, names=names, notes=notes)


def folder_source(
    pretrained: PretrainedModel,
    folder: ImageFolder,
    num_proc: int | None,
    test_time_flips: bool = False,
) -> ImageSource:
    """Open a folder of images; files that cannot be decoded are reported when they are read."""
    geometry, rule = crop_geometry(pretrained), pretrained.rule
    measured = sample_images(folder, geometry) if rule.needs_images else None
    mean, std = pretrained.preprocessing.mean, pretrained.preprocessing.std
    preprocessing = rule.fit(measured, mean, std)
    preprocessing = replace(preprocessing, flips=preprocessing.flips or test_time_flips)
    images: dict[str, Any] = {"rule": rule.to_dict(), "treatment": preprocessing.to_dict()}
    if measured is not None:
        images["measured_on"] = {"num_images": len(measured)}

    def read(numbers: Sequence[int]) -> Iterator[ImageBlock]:
        return read_blocks(folder, geometry, num_proc, numbers)

    return ImageSource(
        num_images=len(folder.names),
        read=read,
        preprocessing=preprocessing,
        size=geometry.size,
        fingerprint=_fingerprint(folder),
        metadata={"data": _data_facts(folder), "images": images},
        skipped_files=folder.skipped,
        notes=folder.notes,
    )


def _data_facts(folder: ImageFolder) -> dict[str, Any]:
    facts: dict[str, Any] = {"um_per_px": folder.um_per_px}
    if folder.estimate is not None:
        facts["scale"] = {**asdict(folder.estimate), "said": list(folder.estimate.sentences)}
    return facts


def _fingerprint(folder: ImageFolder) -> str:
    """Digest the names, sizes and modification times of the files."""
    found = hashlib.sha256()
    for name in folder.names:
        field, *place = folder.cells.get(name, (name,))
        try:
            stat = (folder.path / str(field)).stat()
            facts = [name, stat.st_size, stat.st_mtime_ns, *place]
        except OSError:  # reported as a fault when the file is read
            facts = [name]
        found.update(json.dumps(facts).encode() + b"\n")
    return found.hexdigest()


def dataset_source(
    pretrained: PretrainedModel,
    ref: str,
    splits: Sequence[str],
    cell_fills_frame: bool,
    num_proc: int | None,
    test_time_flips: bool = False,
) -> ImageSource:
    """Open splits of a prepared folder or a Hub dataset, one after the other."""
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits are {', '.join(splits) or 'empty'}; name each once with --splits")
    domains = load_splits(ref, splits)
    first, geometry = domains[0], crop_geometry(pretrained)
    if not any(map(len, domains)):
        raise ValueError(no_images(ref, splits))
    if first.um_per_px is None and not cell_fills_frame:
        raise ValueError(
            f"{ref} has no scale (um_per_px is null) because its cells fill the frame; "
            "pass --cell-fills-frame to use it"
        )
    preprocessing, images = preprocessing_for(pretrained, ref, test_time_flips)
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
        preprocessing=preprocessing,
        size=geometry.size,
        fingerprint="",  # the metadata has the fingerprints
        metadata={"data": data, "images": images},
        labels=np.concatenate([domain.labels for domain in domains]),
    )
