"""`hf-wbc prepare SOURCE --archive PATH`: from a downloaded archive to a dataset folder."""

from pathlib import Path
from typing import Annotated

import tyro

from hf_wbc.records import read_json


def prepare(
    source: Annotated[str, tyro.conf.Positional],
    archive: Path,
    out: Path | None = None,
    subset: bool = False,
    skip_bad: bool = False,
    num_proc: int | None = None,
    seed: int = 0,
    labels: Path | None = None,
    mapping: Path | None = None,
) -> None:
    """Build a dataset folder from a laboratory's archive.

    The archive is checked against what is known of it and read in place. The folder appears when
    it is whole; the same command continues a build that was interrupted, and does nothing when it
    is finished. `datasets.load_dataset(FOLDER, "cropped")` reads it.

    Args:
        source: The source: acevedo_20, matek_19, mll_23, wbc_1, wbc_2 or class_folders.
        archive: The archive as it was downloaded: a folder, .zip, .tar or compressed .tar.
        out: The dataset's folder; build/SOURCE when not given.
        subset: Build from what is there when it is not the whole archive; the card says so.
        skip_bad: Go on without bad images; the card names them.
        num_proc: Processes; every core when not given.
        seed: The same seed makes the same splits.
        labels: The owner's labels, for sources that come without.
        mapping: What your class folders hold, for class_folders.
    """
    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.preparation.build import prepare as build
    from hf_wbc.preparation.toy_source import NOTICE, toy_name
    from hf_wbc.preparation.work_folder import PROVENANCE

    chosen = dataset_scripts.load(source, labels=labels, mapping=mapping)
    name = toy_name(chosen.name) if (archive / NOTICE).is_file() else chosen.name
    folder = out or Path("build") / name
    was_there = (folder / PROVENANCE).is_file()
    with stage_progress() as on_progress:
        build(
            chosen,
            archive,
            folder,
            subset=subset,
            skip_bad=skip_bad,
            num_proc=num_proc,
            seed=seed,
            on_progress=on_progress,
        )
    made = read_json(folder / PROVENANCE)
    numbers = ", ".join(f"{split} {number:,}" for split, number in made["num_rows"].items())
    end = " (was there already)" if was_there else ""
    print(f"{folder}: {sum(made['num_rows'].values()):,} images, {numbers}{end}")
    for reason in made["bad"].values():
        print(f"left out: {reason.partition('; ')[0]}")
