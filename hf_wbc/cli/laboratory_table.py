r"""Add rows to the tables of docs/laboratories.md and README, and render them again.

    python -m hf_wbc.cli.laboratory_table add "robust" runs/RUN runs/RUN --evaluations evaluations
    python -m hf_wbc.cli.laboratory_table render

`docs/laboratories.jsonl` holds one line for each score; docs/laboratories.md explains them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hf_wbc.escape import print_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_wbc.comparison.laboratory_rows import LaboratoryScore

RECORDS = Path("docs/laboratories.jsonl")
PAGES = {Path("docs/laboratories.md"): True, Path("README.md"): False}
"""Pages with the tables, and whether they show the rows that are for docs only."""


def add(
    row: Annotated[str, tyro.conf.Positional],
    models: Annotated[tuple[Path, ...], tyro.conf.Positional],
    evaluations: tuple[Path, ...] = (),
    docs_only: bool = False,
    folder: Path = Path(),
) -> None:
    """Add the scores of models to a row, and render the tables.

    Args:
        row: Name of the row; its models differ only in the seed, or in the laboratory left out.
        models: Run folders, or folders of hf-wbc combine.
        evaluations: Folders that contain evaluations of the models.
        docs_only: Leave the row out of README, such as the rows of an ablation.
        folder: The checkout.
    """
    from hf_wbc.comparison.laboratory_rows import (
        collect_scores,
        merge_scores,
        read_scores,
        write_scores,
    )

    path = folder / RECORDS
    new = collect_scores(row, models, evaluations, docs_only)
    scores = merge_scores(read_scores(path), new)
    pages = rendered(folder, scores)
    write_scores(path, scores)
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    for score in new:
        print_plain(f"{score.row}, seed {score.seed}, {score.laboratory}: {score.macro_f1:.3f}")


def render(folder: Path = Path()) -> None:
    """Render the tables from the records alone.

    Args:
        folder: The checkout.
    """
    from hf_wbc.comparison.laboratory_rows import read_scores

    for page, text in rendered(folder, read_scores(folder / RECORDS)).items():
        page.write_text(text, encoding="utf-8")


def rendered(folder: Path, scores: "Sequence[LaboratoryScore]") -> dict[Path, str]:
    """Return the text of each page with the tables of these scores.

    Raises:
        ValueError: If a page has no place for the tables, or the scores contradict each other.
    """
    from hf_wbc.comparison.laboratory_table import render_tables, replace_tables

    found = {}
    for name, shows_all in PAGES.items():
        tables = render_tables([each for each in scores if shows_all or not each.docs_only])
        found[folder / name] = replace_tables((folder / name).read_text(encoding="utf-8"), tables)
    return found


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"add": add, "render": render}, config=(tyro.conf.OmitArgPrefixes,)
    )
