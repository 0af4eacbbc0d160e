"""`hf-wbc reference`: what a model's answers are held against, made from its sources."""

from pathlib import Path
from typing import Annotated

import tyro


def reference(
    model: Annotated[Path, tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    per_class: int = 40,
    all_thumbnails: bool = False,
) -> None:
    """Write reference.parquet beside a trained model: nearest cells, confusion, looks of sources.

    The page shows a cell's nearest training cells, warns of foreign stains, and corrects its
    differential count with it. Small images are kept of sources alone that may be passed on.

    Args:
        model: A run's model folder.
        data: The prepared folders or Hub datasets that it was trained on.
        per_class: Training cells of each class and source.
        all_thumbnails: Keep small images of every source; such a file is for your own use.
    """
    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.build_gallery import build_reference_set
    from hf_wbc.preparation.toy_source import toy_name

    known = dataset_scripts.known()
    shown = [name for name, source in known.items() if source.redistributable]
    shown += map(toy_name, known)
    with stage_progress() as report:
        path = build_reference_set(
            model,
            data,
            shown=None if all_thumbnails else shown,
            per_class=per_class,
            on_progress=lambda done, total: report("reference", done, total),
        )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
