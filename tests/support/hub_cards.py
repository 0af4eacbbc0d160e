"""Regenerate the cards in model_cards/rendered: `python tests/support/hub_cards.py`.

Each card is rendered from inputs stored next to this module: the record of a real run, the metadata
of the complete prepared Acevedo_20, the tables of a comparison of four real runs, and the README of
the shipped demo.
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import dataset_scripts
from hf_wbc.comparison.export import PAGE
from hf_wbc.hub.card import card_location
from hf_wbc.hub.model_card import model_card
from hf_wbc.hub.publication import TAG, parse_destination
from hf_wbc.hub.publish_comparison import comparison_publication
from hf_wbc.hub.publish_dataset import published_card
from hf_wbc.hub.publish_space import with_model
from hf_wbc.models.exposure import Exposure
from hf_wbc.preparation.dataset_card import CardFacts, write_card
from hf_wbc.record_versions import upgrade_record
from hf_wbc.shipped import shipped

INPUTS = Path(__file__).parent / "card_inputs"


def rendered(name: str) -> Path:
    """Return the path of a rendered card."""
    return shipped("model_cards") / "rendered" / f"{name}.md"


def record() -> dict[str, Any]:
    """Return the record of a real run, MSTN from Acevedo_20 to Tecom's images, as published."""
    return upgrade_record(json.loads((INPUTS / "record.json").read_text()))


def model(of: Mapping[str, Any] | None = None, **more: Any) -> str:
    """Render the model card of a record; defaults to the stored record."""
    of = of or record()
    seen = Exposure(of["model"]["exposure"]).after(["acevedo_20"], ["tecom_jiangxi"])
    place = card_location(parse_destination("lab/wbc-model", "model"))
    return model_card(of, seen, place, dataset_scripts.known(), **more)


def dataset() -> str:
    """Render the dataset card of Acevedo_20."""
    source = dataset_scripts.known()["acevedo_20"]
    built = json.loads((INPUTS / "acevedo_20.json").read_text())
    facts = CardFacts(**built["facts"])
    place = card_location(parse_destination("lab/wbc-acevedo-20", "dataset"))
    with TemporaryDirectory() as folder:
        write_card(path := Path(folder) / "README.md", source, facts, built["provenance"])
        return published_card(path.read_text(encoding="utf-8"), source, place, is_benchmark=True)


def comparison() -> str:
    """Render the card of a comparison."""
    with TemporaryDirectory() as folder:
        for path in (INPUTS / "comparison").glob("*.csv"):
            with path.open(newline="") as file:
                table = pa.Table.from_pylist(list(csv.DictReader(file)))
            pq.write_table(table, Path(folder) / f"{path.stem}.parquet")
        (Path(folder) / PAGE).write_bytes((INPUTS / "comparison" / PAGE).read_bytes())
        to = parse_destination("lab/wbc-study", "study")
        card = comparison_publication(Path(folder), to, dataset_scripts.known()).files["README.md"]
    assert isinstance(card, bytes)
    return card.decode()


def space() -> str:
    """Render the card of the demo's Space, which shows a model."""
    own = (shipped("spaces") / "wbc" / "README.md").read_text(encoding="utf-8")
    return with_model(own, "lab/wbc-model@v1")


CARDS: Mapping[str, Callable[[], str]] = {
    "model": lambda: model(picture="confusion.png"),
    "dataset": dataset,
    "comparison": comparison,
    "space": space,
}


def published(name: str) -> str:
    """Render a card as published under its tag."""
    return CARDS[name]().replace(TAG, "v1")


if __name__ == "__main__":
    for name in CARDS:
        rendered(name).write_text(published(name), encoding="utf-8")
        print(rendered(name))
