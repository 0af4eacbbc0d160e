"""`hf-wbc embed`: extract the penultimate features of datasets."""

from pathlib import Path
from typing import Annotated

import tyro


def embed(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    cache: Path = Path("build/features"),
    image_size: int | None = None,
) -> None:
    """Extract the features of datasets, for training on features.

    Example: hf-wbc embed dinov3-s build/acevedo_20 build/matek_19

    These are the inputs of the classifier's head, for every split. Existing files are kept.

    Args:
        model: A built-in name, a Hub model `org/name[@revision]`, or a folder.
        data: Prepared folders or Hub datasets.
        cache: Folder for the Parquet files, which `hf-wbc train --inputs features` reads.
        image_size: Side of the model's input in pixels; if omitted, that of the checkpoint.
    """
    from functools import partial

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.data.schema import SPLITS
    from hf_wbc.engine.accelerator import make_accelerator
    from hf_wbc.engine.domains import load_domain
    from hf_wbc.engine.features import embed as embed_domain
    from hf_wbc.engine.features import features_path
    from hf_wbc.models import load_classifier

    if not data:
        raise ValueError("no data; name prepared folders or Hub datasets after the model")
    domains = [getattr(load_domain(ref), split) for ref in data for split in SPLITS]
    loaded = load_classifier(model, image_size=image_size)
    accelerator = make_accelerator()
    for domain in domains:
        with stage_progress() as report:
            show = partial(report, f"{domain.name} {domain.split}")
            table = embed_domain(loaded, domain, cache, accelerator, show)
        accelerator.print(
            f"{features_path(loaded, domain, cache)}  {len(table)} x {table.shape[0]}"
        )
