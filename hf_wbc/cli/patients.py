"""`hf-wbc patients`: predict a label of patients from their cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from hf_wbc.cli.path_arguments import KeptFolder, OutputFolder
from hf_wbc.inference.options import RuntimeName

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hf_wbc.inference.patients import PatientBags

COMMON = {"labels", "cache", "runtime", "seed"}
"""Flags that `--help` shows besides --out."""


def patients(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    labels: Path,
    out: OutputFolder = Path("build/patients"),
    cache: KeptFolder = Path("build/features"),
    runtime: RuntimeName = "auto",
    seed: int = 0,
) -> None:
    """Predict a label of each patient from the features of the cells.

    Example: hf-wbc patients dinov2-base build/my_lab --labels patients.csv

    Patients are the groups of the dataset. A mean-pooled head and gated attention are
    cross-validated over patients, with bootstrap intervals over patients. Writes patients.csv and
    record.json.

    Args:
        model: A built-in name, a Hub model `org/name[@revision]`, or a folder.
        data: A prepared folder or a Hub dataset whose groups are patients.
        labels: Table with the columns group and label, one line for each patient.
        out: Folder of the results.
        cache: Cache of computed features, as in `hf-wbc embed`.
        runtime: What computes the features; auto is the fastest installed one that agrees.
        seed: Seed of folds, training and bootstrap.
    """
    import numpy as np

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.engine.domains import load_domain
    from hf_wbc.inference.embed_datasets import embed_datasets
    from hf_wbc.inference.patients import HEADS, cross_validate, join_bags, read_patient_labels
    from hf_wbc.models import load_classifier

    wanted, domain = read_patient_labels(labels), load_domain(data)
    splits = (domain.train, domain.validation, domain.test)
    groups = [
        group
        for split in splits
        for group in (split.groups if split.groups is not None else [None] * len(split))
    ]
    join_bags(np.zeros((len(groups), 1), np.float32), groups, wanted, data)  # before any work
    with stage_progress() as report:
        tables = [each.table for each in embed_datasets(model, [data], cache, None, runtime,
                                                        on_progress=report)]  # fmt: skip
        features = np.concatenate([each.batch(np.arange(len(each))).numpy() for each in tables])
        bags = join_bags(features, groups, wanted, data)
        results = {}
        for number, head in enumerate(HEADS):
            report("heads", number, len(HEADS))
            results[head] = cross_validate(bags, head, seed)
        report("heads", len(HEADS), len(HEADS))
    weights = {"name": model, "revision": load_classifier(model).revision}
    facts = {"kind": "patients", "model": weights, "data": domain.test.name, "seed": seed}
    rows = _write(out, bags, np.concatenate([split.labels for split in splits]), results, facts)
    _print(results, len(rows), bags.unlabeled, out)


def _write(
    out: Path, bags: "PatientBags", cell_labels: "npt.NDArray[np.int64]", results: dict[str, Any],
    facts: dict[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """Write the record and the table of patients, with their probabilities by head; return it."""
    from hf_wbc.escape import write_csv
    from hf_wbc.file_lock import lock_output
    from hf_wbc.records import atomic_replace, write_json

    rows = bags.table(cell_labels)
    for row in rows:
        for head, found in results.items():
            row |= {f"{head}: {name}": p for name, p in found["patients"][row["group"]].items()}
    counts = {"num_patients": len(rows), "unlabeled_groups": list(bags.unlabeled)}
    with lock_output(out, waits=True):  # of two commands, the table and the record are of the same
        out.mkdir(parents=True, exist_ok=True)
        with (
            atomic_replace(out / "patients.csv") as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            write_csv(file, list(rows[0]), (list(row.values()) for row in rows))
        write_json(out / "record.json", {**facts, **counts, "heads": results})
    return rows


def _print(results: dict[str, Any], num: int, unlabeled: tuple[str, ...], out: Path) -> None:
    from rich.table import Table

    from hf_wbc.cli.display import plain_console
    from hf_wbc.text import shorten_list

    table = Table("head", "accuracy [95 %]", "balanced accuracy [95 %]", "AUROC [95 %]")
    for head, found in results.items():
        cells = []
        for name in ("accuracy", "balanced_accuracy", "auroc"):
            low, high = found["intervals"][name]
            cells.append(f"{found['scores'][name]:.3f} [{low:.3f}, {high:.3f}]")
        table.add_row(head, *cells)
    console = plain_console()
    console.print(table)
    console.print(f"{num} patients; {out / 'patients.csv'}", soft_wrap=True)
    if unlabeled:
        console.print(f"without a label, left out: {shorten_list(unlabeled)}", soft_wrap=True)
