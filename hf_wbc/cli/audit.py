"""`hf-wbc audit FOLDER...`: properties of prepared datasets that a score does not reveal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hf_wbc.cli.path_arguments import KeptFolder, OutputFolder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hf_wbc.audit.measure import Folder
    from hf_wbc.audit.run_audit import Audit

FOUND = 3
"""Exit status for undeclared findings; 1 is an error, 2 a wrong command line."""


def audit(
    folders: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: OutputFolder = Path("build/audit"),
    model: Annotated[str | None, tyro.conf.arg(metavar="STR")] = None,
    cache: KeptFolder = Path("build/features"),
    num_proc: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    seed: int = 0,
) -> int:
    """Check datasets for duplicates, wrong labels and confounders.

    Example: hf-wbc audit build/acevedo_20 build/matek_19

    The exit status is 3 if there are findings that the sources do not declare.

    Args:
        folders: Folders written by `hf-wbc prepare`.
        out: Folder of the report; replaces a previous report.
        model: Backbone name, folder or Hub model whose features are mapped too.
        cache: Cache of computed features, as in `hf-wbc embed`.
        num_proc: Number of processes; all cores by default.
        seed: Seed of the maps.
    """
    from hf_wbc.audit.measure import open_folders, read_folder
    from hf_wbc.audit.report import check_output_folder, write_audit
    from hf_wbc.audit.run_audit import run_audit
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.file_lock import lock_output
    from hf_wbc.records import atomic_replace

    check_output_folder(out)
    opened = open_folders(folders)
    with lock_output(out), atomic_replace(out) as work, stage_progress() as on_progress:
        work.mkdir()
        features = _features(model, opened, cache) if model else {}
        found = run_audit(
            read_folder(opened, num_proc, on_progress), features, seed=seed, on_progress=on_progress
        )
        write_audit(work, found)
    _print(out, found)
    return FOUND if found.undeclared else 0


def _features(
    model: str, folders: Sequence["Folder"], cache: Path
) -> dict[str, "npt.NDArray[np.float32]"]:
    """Compute a frozen backbone's features of all cells (N, d), in the order of `read_folder`."""
    import numpy as np

    from hf_wbc.data.dataset import load_split
    from hf_wbc.data.schema import SPLITS
    from hf_wbc.engine.accelerator import make_accelerator
    from hf_wbc.engine.features import embed
    from hf_wbc.models import load_classifier

    loaded, accelerator = load_classifier(model), make_accelerator()
    parts = []
    for folder in folders:
        for split, frames in zip(SPLITS, folder.splits, strict=True):
            domain = load_split(folder.path, split)
            if domain.image_ids != frames.image_ids:
                raise ValueError(
                    f"{folder.path}: {split} differs between {folder.config} and the default "
                    "config; build the dataset again with `hf-wbc prepare`"
                )
            table = embed(loaded, domain, cache, accelerator)
            parts.append(table.batch(np.arange(len(table))).numpy())
    return {Path(model).name: np.concatenate(parts)}


def _print(out: Path, found: "Audit") -> None:
    """Print one line for each finding, and the location of the page."""
    from rich.table import Table
    from rich.text import Text

    from hf_wbc.cli.display import plain_console

    table = Table("", "dataset", "finding")
    signs = {
        "undeclared": Text("!", "yellow"),
        "declared": Text("known", "green"),
        "expected": Text(),
    }
    for finding in found.findings:
        table.add_row(signs[finding.status], ", ".join(finding.domains), finding.title)
    console = plain_console()
    if found.findings:
        console.print(table)
    number = len(found.undeclared)
    summary = f"{number} undeclared findings" if number != 1 else "1 undeclared finding"
    console.print(f"{summary}; {out / 'index.html'}", soft_wrap=True)
