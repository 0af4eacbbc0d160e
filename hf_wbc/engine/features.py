"""Extract penultimate features of a frozen backbone, and cache them as Parquet files.

The file name contains a digest of the images, the backbone's weights and the input size, so each
combination is computed once. Images are loaded at the size and interpolation of the model's own
image processor. Features of augmented views, or of another runtime than torch, have files of their
own.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.config import TrainConfig
from hf_wbc.config_groups import FeatureRuntime
from hf_wbc.data.augment_ops import NUM_DRAWS
from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.pixel_cache import FORMAT, cache_pixels
from hf_wbc.data.table import Table, feature_table
from hf_wbc.engine.domains import DomainSet
from hf_wbc.engine.feature_extraction import FeatureViews, extract_features
from hf_wbc.engine.forward import Report, Runtime, without_progress_bars
from hf_wbc.file_lock import try_lock
from hf_wbc.models import PretrainedModel
from hf_wbc.records import atomic_replace, digest, remove

if TYPE_CHECKING:
    from accelerate import Accelerator

_POLL_S = 0.2
"""Seconds between two looks at features that another command computes."""


def crop_geometry(pretrained: PretrainedModel) -> Geometry:
    """Return the size and interpolation to which the model's processor resizes a 25 um crop."""
    return Geometry(size=pretrained.preprocessing.size, resample=pretrained.preprocessing.resample)


def load_images(
    pretrained: PretrainedModel, domain: DomainSplit, report: Report = without_progress_bars
) -> Table:
    """Load the pixels of a domain as model inputs, from the datasets cache if available."""
    return cache_pixels(domain, crop_geometry(pretrained), on_progress=report)


def feature_views(config: TrainConfig) -> FeatureViews | None:
    """Return the augmented views of the features that a run trains on; None if it has none."""
    num = config.model.feature_views
    return FeatureViews(num, config.data.augmentation) if num else None


def missing_features(
    config: TrainConfig, pretrained: PretrainedModel, domain_set: DomainSet, cache: Path
) -> int:
    """Return for how many images a run on features has to extract them first."""
    runtime, views = config.model.feature_runtime or "torch", feature_views(config)
    wanted: list[tuple[DomainSplit, FeatureViews | None]] = [
        (split, None)
        for domain in domain_set.all
        for split in (domain.train, domain.validation, domain.test)
    ]
    if views is not None:
        domains = (*domain_set.sources, *domain_set.targets)
        wanted += [(domain.train, views) for domain in domains]
    return sum(
        len(split) * (1 if of is None else of.num)
        for split, of in wanted
        if not features_path(pretrained, split, cache, runtime, of).exists()
    )


def stored_runtime(
    config: TrainConfig, pretrained: PretrainedModel, domain_set: DomainSet, cache: Path | None
) -> FeatureRuntime | None:
    """Return the runtime whose features a run on features uses; None is torch.

    It is that of the configuration, or else one whose features are all in the cache.
    """
    requested = config.model.feature_runtime
    if requested is not None or cache is None or config.model.inputs != "features":
        return None if requested == "torch" else requested
    for runtime in get_args(FeatureRuntime):
        other = config.replace(feature_runtime=runtime)
        if runtime != "torch" and not missing_features(other, pretrained, domain_set, cache):
            return cast("FeatureRuntime", runtime)
    return None


def features_path(
    pretrained: PretrainedModel,
    domain: DomainSplit,
    cache: Path,
    runtime: str = "torch",
    views: FeatureViews | None = None,
) -> Path:
    """Return the path in `cache` for the features of a domain's split.

    Args:
        pretrained: The model.
        domain: The images.
        cache: Folder for extracted features.
        runtime: Name of the runtime that computes; only other runtimes than torch are part of the
            name.
        views: Augmented views of each image; None are the images as they are.
    """
    facts = {
        "data": domain.fingerprint,
        "model": pretrained.revision,
        "pixels": FORMAT,
        **asdict(crop_geometry(pretrained)),
    }
    if runtime != "torch":
        facts["runtime"] = runtime
    if views is not None:
        facts |= {
            "views": views.num,
            "augmentation": asdict(views.augmentation),
            "draws": NUM_DRAWS,
        }
    return cache / f"{domain.name}-{digest(with_arithmetic(facts))}.parquet"


def embed(
    pretrained: PretrainedModel,
    domain: DomainSplit,
    cache: Path,
    accelerator: "Accelerator",
    report: Report = without_progress_bars,
    *,
    runtime: Runtime | None = None,
    views: FeatureViews | None = None,
) -> Table:
    """Return the penultimate features (N, d) of a domain, from the cache if available.

    An interrupted call leaves PATH.partial, from which the same call resumes to the same bits.
    Callers block while another process computes the same features. No file is written for a split
    without images.

    Args:
        pretrained: The model.
        domain: The images.
        cache: Folder for extracted features.
        accelerator: Runs the model.
        report: Called with the number of images done, and the total.
        runtime: Computes the features in fp32; None is eager torch.
        views: Augmented views to embed instead of the images as they are. The table then has rows
            (V, d), of which a training step draws one view for each image.

    Raises:
        ValueError: If the model normalizes images by domain, blurs or flips them.
    """
    if not pretrained.rule.is_plain:
        raise ValueError(
            "the model was trained on images preprocessed by domain, so its features of other "
            "images would be misleading; train with --inputs images, or embed with another model"
        )
    if not len(domain):
        shape = (0,) if views is None else (0, views.num)
        none = np.empty((*shape, pretrained.classifier.num_features), np.float32)
        return feature_table(none, domain.labels, domain.image_ids, domain.name)
    name = "torch" if runtime is None else runtime.name
    path = features_path(pretrained, domain, cache, name, views)
    with _computed_once(path, accelerator) as is_missing:
        if is_missing:
            work = path.with_name(f"{path.name}.partial")
            features = extract_features(
                pretrained, domain, crop_geometry(pretrained), work, accelerator, report,
                runtime, views,
            )  # fmt: skip
            if accelerator.is_main_process:
                _write(path, domain, features, _facts(runtime, views))
                remove(work)
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


def require_features(
    pretrained: PretrainedModel,
    domain: DomainSplit,
    cache: Path,
    runtime: str,
    views: FeatureViews | None = None,
) -> Table:
    """Return features that `hf-wbc embed` has extracted with another runtime than torch.

    Raises:
        ValueError: If they are not in the cache.
    """
    path = features_path(pretrained, domain, cache, runtime, views)
    if not path.exists():
        more = f" --views {views.num}, with the same augmentation" if views else ""
        raise ValueError(
            f"{path} is missing, the features of {domain.ref} ({domain.split}) by {runtime}; run "
            f"`hf-wbc embed` with --cache {cache} --runtime {runtime}{more}, or leave out "
            "--feature-runtime"
        )
    return _read(path, domain)


def _facts(runtime: Runtime | None, views: FeatureViews | None) -> dict[str, Any]:
    """Return what computed the features and which views they are of; empty for the default."""
    facts: dict[str, Any] = {}
    if runtime is not None:
        facts["runtime"] = {"name": runtime.name, "version": runtime.version}
    if views is not None:
        facts["views"] = asdict(views)
    return facts


def _write(
    path: Path, domain: DomainSplit, features: npt.NDArray[np.float32], facts: Mapping[str, Any]
) -> None:
    columns = {
        "image_id": domain.image_ids,
        "label": domain.labels,
        "features": fixed_rows(features),
    }
    table = pa.table(columns)
    if facts:
        table = table.replace_schema_metadata({"hf_wbc": json.dumps(facts)})
    with atomic_replace(path) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=False)


def _read(path: Path, domain: DomainSplit) -> Table:
    try:
        table = pq.read_table(path, memory_map=True).combine_chunks()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged ({error}); delete it") from error
    column, shape = table["features"].combine_chunks(), [len(table)]
    while pa.types.is_fixed_size_list(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    features = column.to_numpy().reshape(shape)
    return feature_table(features, domain.labels, domain.image_ids, domain.name)


def fixed_rows(values: npt.NDArray[np.float32]) -> pa.Array:
    """Return an array (N, ..., d) as an Arrow column of N lists, nested for more than two axes."""
    column = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
