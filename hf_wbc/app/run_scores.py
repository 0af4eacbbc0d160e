"""Scores from the record of the run that trained a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc.config import TrainConfig
from hf_wbc.records import RunFolder

if TYPE_CHECKING:
    from hf_wbc.comparison.document import Table

RECORD = "record.json"


def load_run_record(model: str) -> Mapping[str, Any] | None:
    """Load the training record of a model folder, a published folder, or a Hub model.

    Returns:
        The record, or None if the model has none.

    Raises:
        ValueError: If the record is damaged, or the Hub cannot be reached.
    """
    path = Path(model)
    if path.is_dir():
        folders = [path, *([path.resolve().parent] if path.name == "model" else [])]
    else:
        from hf_wbc.data.hub_cache import fetch_snapshot

        name, _, revision = model.partition("@")
        folders = [fetch_snapshot(name, "model", revision or None, [RECORD])]
    found = next((folder for folder in folders if (folder / RECORD).is_file()), None)
    record = None if found is None else RunFolder(found).read_record()
    return record if record and record.get("kind") == "training" else None


@dataclass(frozen=True)
class Scores:
    """The scores on a model's card."""

    direction: str
    """`a → b`: sources and target."""
    method: str
    how_chosen: str
    warnings: tuple[str, ...]
    table: "Table"
    by_class: "Table"
    unit: str
    """The resampling unit of the bootstrap intervals."""


def run_scores(record: Mapping[str, Any]) -> Scores:
    """Read the scores of a record; ValueError if another version wrote it."""
    from hf_wbc.hub.model_card import class_table, score_table
    from hf_wbc.hub.model_card_text import direction, how_chosen, scored, warnings

    try:
        return Scores(
            direction=direction(record),
            method=TrainConfig.from_record(record).adapt.method,
            how_chosen=how_chosen(record),
            warnings=tuple(warnings(record)),
            table=score_table(record),
            by_class=class_table(record),
            unit=scored(record)[0][2]["intervals"]["unit"],
        )
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"its record.json lacks {error}: another version of hf_wbc wrote it"
        ) from error
