"""Extract penultimate features of a frozen backbone, and cache them as Parquet files.

The file name contains a digest of the images, the backbone's weights and the input size, so each
combination is computed once. Images are loaded at the size and interpolation of the model's own
image processor.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.pixel_cache import FORMAT, cache_pixels
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.table import Table, feature_table
from hf_wbc.engine.forward import Report, predict, without_progress_bars
from hf_wbc.file_lock import try_lock
from hf_wbc.models import PretrainedModel
from hf_wbc.records import atomic_replace, digest

if TYPE_CHECKING:
    from accelerate import Accelerator

_POLL_S = 0.2
"""Seconds between two looks at features that another command computes."""


def crop_geometry(pretrained: PretrainedModel) -> Geometry:
    """Return the size and interpolation to which the model's processor resizes a 25 um crop."""
    return Geometry(size=pretrained.preprocessing.size, resample=pretrained.preprocessing.resample)


def load_images(pretrained: PretrainedModel, domain: DomainSplit) -> Table:
    """Load the pixels of a domain as model inputs, from the datasets cache if available."""
    return cache_pixels(domain, crop_geometry(pretrained))


def features_path(pretrained: PretrainedModel, domain: DomainSplit, cache: Path) -> Path:
    """Return the path in `cache` for the features of a domain's split."""
    facts = {
        "data": domain.fingerprint,
        "model": pretrained.revision,
        "pixels": FORMAT,
        **asdict(crop_geometry(pretrained)),
    }
    key = digest(with_arithmetic(facts))
    return cache / f"{domain.name}-{key}.parquet"


def embed(
    pretrained: PretrainedModel,
    domain: DomainSplit,
    cache: Path,
    accelerator: "Accelerator",
    report: Report = without_progress_bars,
) -> Table:
    """Return the penultimate features (N, d) of a domain, from the cache if available.

    Args:
        pretrained: The model.
        domain: The images.
        cache: Folder for extracted features.
        accelerator: Runs the model.
        report: Called with the number of images done, and the total.

    Raises:
        ValueError: If the model normalizes images by domain, blurs or flips them.
    """
    if not pretrained.rule.is_plain:
        raise ValueError(
            "the model was trained on images treated by domain, and its features of others would "
            "mislead; train with --inputs images, or embed with another model"
        )
    path = features_path(pretrained, domain, cache)
    with _computed_once(path, accelerator) as is_missing:
        if is_missing:
            with accelerator.main_process_first():
                pixels = load_images(pretrained, domain)
            pretrained.classifier.to(accelerator.device)
            plain = ImagePreprocessing(pretrained.preprocessing.mean, pretrained.preprocessing.std)
            found = predict(pretrained.classifier, pixels, plain, accelerator, report=report)
            if accelerator.is_main_process:
                _write(path, domain, found.features)
            accelerator.wait_for_everyone()
    return _read(path, domain)


@contextmanager
def _computed_once(path: Path, accelerator: "Accelerator") -> Iterator[bool]:
    """Wait while another command computes `path`; yield whether this one has to.

    All processes of a command get the same answer, that of the main process, which holds the lock.
    """
    from accelerate.utils import broadcast_object_list

    lock, is_missing = None, True
    while True:
        is_decided = True
        if accelerator.is_main_process:
            is_missing = not path.exists()
            if is_missing:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = try_lock(path.with_name(f".{path.name}.lock"))
                is_decided, is_missing = lock is not None, not path.exists()
        is_decided, is_missing = broadcast_object_list([is_decided, is_missing])
        if is_decided:
            break
        time.sleep(_POLL_S)
    try:
        yield is_missing
    finally:
        if lock is not None:
            lock.release()


def _write(path: Path, domain: DomainSplit, features: npt.NDArray[np.float32]) -> None:
    columns = {
        "image_id": domain.image_ids,
        "label": domain.labels,
        "features": fixed_rows(features),
    }
    with atomic_replace(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="none", use_dictionary=False)


def _read(path: Path, domain: DomainSplit) -> Table:
    try:
        table = pq.read_table(path, memory_map=True).combine_chunks()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged ({error}); delete it") from error
    column = table["features"].combine_chunks()
    features = column.flatten().to_numpy().reshape(len(column), -1)
    return feature_table(features, domain.labels, domain.image_ids, domain.name)


def fixed_rows(values: npt.NDArray[np.float32]) -> pa.Array:
    """Return an array (N, d) as an Arrow column of N lists of d values."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
