"""CITATION.cff matches this version and cites the same dataset papers as the cards."""

from pathlib import Path

import pytest
import yaml

import dataset_scripts
from hf_wbc import __version__

FILE = Path(__file__).resolve().parents[1] / "CITATION.cff"


def test_citation_has_current_version_and_required_fields() -> None:
    facts = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert facts["version"] == __version__ and facts["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(facts)


@pytest.mark.parametrize("name", ["acevedo_20", "matek_19", "mll_23"])
def test_papers_of_sources_are_cited(name: str) -> None:
    references = yaml.safe_load(FILE.read_text(encoding="utf-8"))["references"]
    citation = " ".join(dataset_scripts.load(name).citation.split())
    (cited,) = [each for each in references if each.get("doi", "no doi") in citation]
    assert str(cited["year"]) in citation
    assert cited["authors"][0]["family-names"] in citation
