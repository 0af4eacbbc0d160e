"""CITATION.cff matches this version and cites the same dataset papers as the cards."""

from pathlib import Path

import pytest
import yaml

import dataset_scripts
from hf_wbc import __version__
from hf_wbc.hub.benchmark import CITATION

FILE = Path(__file__).resolve().parents[1] / "CITATION.cff"


def test_citation_has_current_version_and_required_fields() -> None:
    facts = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert facts["version"] == __version__ and facts["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(facts)


def test_dataset_cards_cite_the_benchmark_as_the_file_does() -> None:
    references = yaml.safe_load(FILE.read_text(encoding="utf-8"))["references"]
    (cited,) = [each for each in references if each["title"].startswith("hf_wbc benchmark")]
    bibtex = " ".join(CITATION.split())
    assert f"title = {{{cited['title']}}}" in bibtex
    assert f'author = "{{{cited["authors"][0]["name"]}}}"' in bibtex
    assert f"year = {{{cited['year']}}}" in bibtex
    assert f"Version {cited['version']}" in bibtex and cited["version"] == __version__


@pytest.mark.parametrize("name", ["acevedo_20", "matek_19", "mll_23"])
def test_papers_of_sources_are_cited(name: str) -> None:
    references = yaml.safe_load(FILE.read_text(encoding="utf-8"))["references"]
    citation = " ".join(dataset_scripts.load(name).citation.split())
    (cited,) = [each for each in references if each.get("doi", "no doi") in citation]
    assert str(cited["year"]) in citation
    assert cited["authors"][0]["family-names"] in citation
