"""`hf-wbc prepare SOURCE --archive PATH`: from a downloaded archive to a dataset folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from hf_wbc.cli.path_arguments import OutputFolder
from hf_wbc.escape import print_plain
from hf_wbc.records import read_json


def prepare(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="")],
    archive: Path,
    out: Annotated[OutputFolder | None, tyro.conf.arg(metavar="PATH")] = None,
    subset: tyro.conf.FlagCreatePairsOff[bool] = False,
    skip_bad: tyro.conf.FlagCreatePairsOff[bool] = False,
    num_proc: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    seed: int = 0,
    labels: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    mapping: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    zip_encoding: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
) -> None:
    """Build a dataset folder from an archive.

    Example: hf-wbc prepare acevedo_20 --archive PBC_dataset_normal_DIB.zip

    The same command resumes an interrupted build.

    Args:
        source: acevedo_20, matek_19, mll_23, raabin_22, wbc_1, wbc_2, wbcbench_26,
            wbcbench_26_test or class_folders.
        archive: A folder, .zip, .tar or compressed .tar.
        out: The dataset's folder; build/SOURCE by default.
        subset: Accept an incomplete archive; the card says so.
        skip_bad: Leave out bad images; the card lists them.
        num_proc: Number of processes; all cores by default.
        seed: Seed of the splits.
        labels: Labels, for sources without any.
        mapping: Mapping file for class_folders.
        zip_encoding: Encoding of the file names in a zip or tar, such as gbk or cp932; needed only
            if it cannot be detected.
    """
    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.data.schema import PROVENANCE
    from hf_wbc.preparation.build import prepare as build
    from hf_wbc.preparation.toy_source import NOTICE, toy_name

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
            name_encoding=zip_encoding,
            on_progress=on_progress,
        )
    print_dataset(folder, read_json(folder / PROVENANCE), was_there)


def print_dataset(folder: Path, made: Mapping[str, Any], was_there: bool) -> None:
    """Print the size of a dataset, and what is noteworthy about it."""
    numbers = ", ".join(f"{split} {number:,}" for split, number in made["num_rows"].items())
    end = " (already built)" if was_there else ""
    print_plain(f"{folder}: {sum(made['num_rows'].values()):,} images, {numbers}{end}")
    for note in made.get("notes", []):
        print_plain(note)
    for reason in made["bad"].values():
        print_plain(f"left out: {reason.partition('; ')[0]}")
