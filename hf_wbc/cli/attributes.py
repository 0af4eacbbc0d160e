"""`hf-wbc attributes`: train a head for morphological attributes on a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hf_wbc.cli.path_arguments import OutputFolder

if TYPE_CHECKING:
    from hf_wbc.models.attribute_head import AttributeHead

COMMON = {"table", "second", "limit"}
"""Flags that `--help` shows besides --out."""


def attributes(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    table: tuple[Path, ...],
    second: tuple[Path, ...] = (),
    out: OutputFolder | None = None,
    limit: int = 4000,
    elsewhere: tuple[str, ...] = (),
) -> None:
    """Train a head for morphology, such as nucleus shape and granules.

    Example: hf-wbc attributes runs/RUN/model build/acevedo_20 --table pbc_attr_v1_train.csv

    Attributes never change the class. They are trained on the training cells of the dataset, scored
    on its test cells, and called reliable within .05 of the annotators' agreement.

    Args:
        model: A run's model folder.
        data: A prepared folder or a Hub dataset whose images the table names.
        table: Tables with the column img_name and a column for each attribute, such as WBCAtt's.
        second: The same from other annotators, to measure their agreement.
        out: Folder of attributes.safetensors; the model's own folder by default.
        limit: Most cells of each split.
        elsewhere: Datasets of other laboratories, to see how often their cells get the values that
            their class almost always has.
    """
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.attributes import read_attributes, train_attributes

    folder = Path(model) if out is None else out
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one as --out")
    first = read_attributes(table)
    again = read_attributes(second) if second else None
    with stage_progress() as report:
        head = train_attributes(model, data, first, again, limit, elsewhere, report)
    path = head.save(folder)
    _print(head, path)


def _print(head: "AttributeHead", path: Path) -> None:
    """Print the F1 of each attribute beside the annotators' agreement."""
    from hf_wbc.cli.display import compact_table, plain_console

    facts, agreement = head.facts, head.facts["agreement"]
    table = compact_table("attribute", "values", "F1", "annotators", "reliable")
    for name, values in head.values.items():
        known = "" if agreement is None else f"{agreement[name]:.3f}"
        is_reliable = "yes" if name in head.reliable else "no" if agreement else ""
        table.add_row(name, str(len(values)), f"{facts['f1'][name]:.3f}", known, is_reliable)
    mean = sum(facts["f1"].values()) / len(facts["f1"])
    console = plain_console()
    console.print(table)
    console.print(
        f"mean F1 {mean:.3f} on {facts['num_test']:,} test cells, trained on "
        f"{facts['num_train']:,}; {path}",
        soft_wrap=True,
    )
    if len(consistency := facts["consistency"]) > 1:
        console.print("cells with the value that nearly all of their class have at home:")
        shares = compact_table("attribute", *consistency)
        for name in head.values:
            each = [of_laboratory.get(name) for of_laboratory in consistency.values()]
            shares.add_row(name, *("" if share is None else f"{share:.3f}" for share in each))
        console.print(shares)
