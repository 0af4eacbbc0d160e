"""`hf-wbc embed`: extract the penultimate features of datasets."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.config_groups import AUGMENTATIONS
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import RuntimeName

AugmentationName = Literal["robust", "light", "none"]
COMMON = {"cache", "image_size", "runtime", "views"}
"""Flags that `--help` shows."""


def embed(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    cache: KeptFolder = Path("build/features"),
    image_size: int | None = None,
    runtime: RuntimeName = "auto",
    views: int = 0,
    augmentation: AugmentationName = "robust",
) -> None:
    """Extract the features of datasets, for training on features.

    Example: hf-wbc embed dinov2-base build/acevedo_20 build/matek_19

    These are the inputs of the classifier's head, for every split. Existing files are kept; the
    same command resumes an interrupted one, which loses less than a minute of work.

    Args:
        model: A built-in name, a Hub model `org/name[@revision]`, or a folder.
        data: Prepared folders or Hub datasets.
        cache: Folder for the Parquet files, which `hf-wbc train --inputs features` reads.
        image_size: Side of the model's input in pixels; if omitted, that of the checkpoint.
        runtime: What computes; auto is the fastest installed one whose features agree with torch's
            to 0.001 standard deviations, and keeps features of torch that are there.
        views: Also embed this many augmented views of each training image, for
            `hf-wbc train --feature-views N`.
        augmentation: Random changes of the views, as named in `hf-wbc train`. Training embeds views
            of other ranges (--hue 0.2) itself.
    """
    from hf_wbc.cli.display import is_main_process, stage_progress
    from hf_wbc.engine.feature_extraction import FeatureViews
    from hf_wbc.inference.embed_datasets import embed_datasets

    if not data:
        raise ValueError("no data; name prepared folders or Hub datasets after the model")
    wanted = FeatureViews(views, AUGMENTATIONS[augmentation]) if views else None
    with stage_progress() as report:
        found = list(embed_datasets(model, data, cache, image_size, runtime, wanted, report))
    if is_main_process():
        for each in found:
            if not len(each.table):
                print_plain(f"{each.domain.ref}: {each.domain.split} has no images")
                continue
            shape = " x ".join(map(str, (len(each.table), *each.table.shape)))
            by = f"{each.runtime.name} {each.runtime.version}" if each.runtime else "torch"
            print_plain(f"{each.path}  {shape}  {by}")
