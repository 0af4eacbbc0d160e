"""Publish a comparison of runs: its tables as a dataset, its text as the card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc.comparison.document import join_names
from hf_wbc.comparison.export import PAGE, PAPER
from hf_wbc.hub.card import CardLocation, card_location, render_card
from hf_wbc.hub.publication import CARD, Destination, Publication
from hf_wbc.preparation.source import ArchiveSpec

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData

__all__ = ["comparison_publication"]

TEMPLATE = "model_cards/comparison.md"
REPORT = "report.html"
SPLIT = "table"
ABOUT = {
    "rows": "every score with its confidence interval, one row for each method, network, "
    "direction and split",
    "differences": "which differences between methods are significant",
    "ranks": "mean ranks over directions and seeds (Friedman, Nemenyi)",
    "rules_within_runs": "what each selection rule would have chosen within a run, scored with "
    "labels",
    "rules_among_runs": "what each selection rule would have chosen among all runs, scored with "
    "labels",
    "noise_ceiling": "how well human examiners agree",
    "problems": "run folders that are not in the comparison, and why",
}
"""The description of each table."""


def comparison_publication(
    what: Path,
    destination: Destination,
    sources: Mapping[str, ArchiveSpec],
    *,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a folder that `hf-wbc compare` wrote.

    Args:
        what: The folder.
        destination: Where others will load it from.
        sources: The known sources by domain.
        public: Whether anyone may see it. None: tables, which contain no image, are public; a
            report, which shows cells, only if all of them may be redistributed.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: Another folder, files that compare does not write, or a public report with
            cells that may not be redistributed.
    """
    tables = _tables(what)
    rows = tables["rows"].to_pylist()
    domains = _names(rows, "sources", "targets", "held_out", "domain")
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(what.iterdir())}
    has_report = REPORT in files
    forbidden = [d for d in domains if d in sources and not sources[d].redistributable]
    if public and has_report and forbidden:
        raise ValueError(
            f"{what / REPORT} shows cells of {join_names(forbidden)}, which may not be "
            "redistributed; "
            "compare again with --no-report, or publish it privately"
        )
    may_show = all(d in sources and sources[d].redistributable for d in domains)
    place = card_location(destination)
    files[CARD] = _card(what, tables, rows, place, sources, has_report).encode()
    return Publication(
        kind="study",
        files=files,
        public=(may_show or not has_report) if public is None else public,
        message=_title(what),
        tag=tag,
    )


def _tables(what: Path) -> dict[str, Any]:
    """The comparison's tables by name; ValueError if the folder is not a comparison."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (what / PAGE).is_file() or not (what / "rows.parquet").is_file():
        raise ValueError(
            f"{what} is not a folder that `hf-wbc compare` wrote; compare runs first: "
            "hf-wbc compare runs --out build/comparison"
        )
    known = {
        PAGE,
        PAPER,
        REPORT,
        *(f"{name}.{end}" for name in ABOUT for end in ("csv", "parquet")),
    }
    if foreign := sorted(path.name for path in what.iterdir() if path.name not in known):
        raise ValueError(
            f"{what} contains {', '.join(foreign)}, which `hf-wbc compare` does not write; move it "
            "away, or compare again"
        )
    found = {}
    for name in ABOUT:
        path = what / f"{name}.parquet"
        if path.is_file():
            try:
                found[name] = pq.read_table(path)
            except (OSError, pa.ArrowInvalid) as error:
                raise ValueError(f"{path} is damaged: {error}; compare again") from error
    return found


def _card(
    what: Path,
    tables: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    place: CardLocation,
    sources: Mapping[str, ArchiveSpec],
    has_report: bool,
) -> str:
    domains = _names(rows, "sources", "targets", "held_out", "domain")
    title, _, body = (what / PAGE).read_text(encoding="utf-8").partition("\n")
    return render_card(
        TEMPLATE,
        _card_data(title.strip("# "), tables),
        title=title.strip("# "),
        domains=join_names(domains),
        methods=", ".join(f"`{name}`" for name in _names(rows, "method")),
        num_runs=len(_names(rows, "runs")),
        report=has_report,
        place=place,
        tables={name: f"{table.num_rows:,}" for name, table in tables.items()},
        about=ABOUT,
        comparison=body.strip("\n"),
        known=[sources[name] for name in domains if name in sources],
    )


def _card_data(title: str, tables: Mapping[str, Any]) -> "DatasetCardData":
    """The card's front matter: one configuration for each table."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=title,
        tags=["biology", "medical", "microscopy", "white-blood-cells", "benchmark", "hf_wbc"],
    )
    MetadataConfigs(
        {
            name: {
                "data_files": [{"split": SPLIT, "path": f"{name}.parquet"}],
                **({"default": True} if name == "rows" else {}),
            }
            for name in tables
        }
    ).to_dataset_card_data(data)
    return data


def _names(rows: Sequence[Mapping[str, Any]], *columns: str) -> list[str]:
    """The distinct names in these columns, in alphabetical order."""
    return sorted({word for row in rows for column in columns for word in str(row[column]).split()})


def _title(what: Path) -> str:
    return (what / PAGE).read_text(encoding="utf-8").partition("\n")[0].strip("# ")
