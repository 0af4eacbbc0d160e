"""Embed whole datasets with the fastest runtime, for the command line and the Python API."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.schema import SPLITS
from hf_wbc.data.table import Table
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.domains import load_domain
from hf_wbc.engine.feature_extraction import FeatureViews
from hf_wbc.engine.features import embed, features_path
from hf_wbc.engine.forward import Runtime
from hf_wbc.inference.select_runtime import load_to_embed

__all__ = ["EmbeddedSplit", "embed_datasets"]


@dataclass(frozen=True)
class EmbeddedSplit:
    """The features of one split of a dataset."""

    domain: DomainSplit
    path: Path
    """The Parquet file in the cache."""
    table: Table
    """Features (N, d), or (N, V, d) of V views."""
    runtime: Runtime | None
    """What computed them, now or earlier; None is eager torch."""


def embed_datasets(
    model: str,
    refs: Sequence[str],
    cache: Path,
    image_size: int | None = None,
    runtime: str = "auto",
    views: FeatureViews | None = None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Iterator[EmbeddedSplit]:
    """Embed every split of datasets, and then views of their training splits.

    Args:
        model: A built-in name, a Hub model `org/name[@revision]`, or a folder.
        refs: Prepared folders or Hub datasets.
        cache: Folder of the Parquet files; see `hf_wbc.engine.features.embed`.
        image_size: Side of the model's input in pixels; None takes the checkpoint's own.
        runtime: One of `hf_wbc.inference.select_runtime.RUNTIMES`. auto keeps features of torch
            that are in the cache.
        views: Augmented views to embed of the training images, besides the images as they are.
        on_progress: Called with the split, the number of images done and the total.

    Yields:
        The splits in their order. All processes of a launch get the same.

    Raises:
        ValueError: If the model, a dataset or the runtime cannot be used.
    """
    domains = [getattr(load_domain(ref), split) for ref in refs for split in SPLITS]
    accelerator = make_accelerator()
    pretrained, chosen = load_to_embed(model, image_size, runtime, accelerator.device)
    jobs: list[tuple[DomainSplit, FeatureViews | None]] = [(domain, None) for domain in domains]
    jobs += [(domain, views) for domain in domains if views and domain.split == "train"]
    for domain, of in jobs:
        is_kept = runtime == "auto" and features_path(pretrained, domain, cache, views=of).exists()
        by = None if is_kept else chosen
        stage = f"{domain.name} {domain.split}" + (f", {of.num} views" if of else "")
        show = partial(on_progress, stage)
        table = embed(pretrained, domain, cache, accelerator, show, runtime=by, views=of)
        path = features_path(pretrained, domain, cache, by.name if by else "torch", of)
        yield EmbeddedSplit(domain, path, table, by)
