"""`hf-wbc reference`: build a model's reference set from its training data."""

from pathlib import Path
from typing import Annotated

import tyro

from hf_wbc.cli.path_arguments import OutputFolder
from hf_wbc.escape import print_plain


def reference(
    model: Annotated[OutputFolder, tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.Positional],
    per_class: int = 40,
    all_thumbnails: bool = False,
    outliers: tuple[str, ...] = (),
    outlier_um_per_px: float | None = None,
) -> None:
    """Build the reference set that the demo shows neighbors from.

    Example: hf-wbc reference runs/RUN/model build/acevedo_20

    The reference set also holds the confusion matrix, which corrects the differential count, and
    the appearance of the sources, which unfamiliar stains are compared with. It is written to
    reference.parquet beside the model. Thumbnails are included only for sources whose license
    allows redistribution.

    Args:
        model: A run's model folder.
        data: The prepared folders or Hub datasets that the model was trained on.
        per_class: Number of training cells per class and source.
        all_thumbnails: Include thumbnails of every source; do not redistribute such a file.
        outliers: Folders of images that show none of the eleven classes, as NAME=FOLDER, such as
            platelet=PBC_dataset_normal_DIB/platelet; the page recognizes such images.
        outlier_um_per_px: The scale of these images.
    """
    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.build_gallery import build_reference_set
    from hf_wbc.preparation.toy_source import toy_name

    known = dataset_scripts.known()
    shown = [name for name, source in known.items() if source.redistributable]
    shown += map(toy_name, known)
    named = dict(each.partition("=")[::2] for each in outliers)
    if bad := [each for each in outliers if not all(each.partition("=")[::2])]:
        raise ValueError(f"--outliers {bad[0]}: give NAME=FOLDER, such as platelet=FOLDER")
    with stage_progress() as report:
        path = build_reference_set(
            model,
            data,
            shown=None if all_thumbnails else shown,
            per_class=per_class,
            outliers={name: Path(folder) for name, folder in named.items()},
            outlier_um_per_px=outlier_um_per_px,
            on_progress=lambda done, total: report("reference", done, total),
        )
    print_plain(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
