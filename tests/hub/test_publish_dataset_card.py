"""A published dataset card states where to load the dataset from, and shows its classes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from hf_wbc.hub.benchmark import CITATION
from hf_wbc.hub.card import card_location
from hf_wbc.hub.publication import TAG, parse_destination
from hf_wbc.hub.publish_dataset import PICTURE, dataset_publication, published_card
from hf_wbc.preparation.source import ArchiveSpec

TO = parse_destination("lab/wbc-lab-a", "dataset")


def card(folder: Path, source: ArchiveSpec) -> str:
    file = dataset_publication(folder, source, TO).files["README.md"]
    assert isinstance(file, bytes)
    return file.decode()


def test_card_differs_from_local_one_only_in_location_and_figure(
    prepared: Mapping[str, Path], labs: Mapping[str, ArchiveSpec]
) -> None:
    own = (prepared["lab_a"] / "README.md").read_text().splitlines()
    text = card(prepared["lab_a"], labs["lab_a"]).splitlines()
    start, end = text.index("## Benchmark"), text.index("## Provenance")
    new = [line for line in text[:start] + text[end:] if line not in own]
    assert new == [
        'path = "lab/wbc-lab-a"',
        f'cells = load_dataset(path, "cropped", split="train", revision="{TAG}")',
        f"![Images by class and split]({PICTURE})",
    ]
    assert [line for line in own if line not in text] == [
        'path = "build/lab_a"  # or, once published, "OWNER/wbc-lab-a"',
        'cells = load_dataset(path, "cropped", split="train")',
    ]


@pytest.mark.parametrize("to", ["lab/wbc-lab-a", "./share/cells"])
def test_benchmark_card_says_how_to_score_submit_and_cite(
    to: str, prepared: Mapping[str, Path], labs: Mapping[str, ArchiveSpec]
) -> None:
    own = (prepared["lab_a"] / "README.md").read_text()
    place = card_location(parse_destination(to, "dataset"))
    text = published_card(own, labs["lab_a"], place, is_benchmark=True)
    section = text[text.index("## Benchmark") : text.index("## Provenance")]
    assert f"hf-wbc evaluate ORG/MODEL {place.ref}\n" in section
    assert (f"hf-wbc submit ORG/MODEL --to {to}\n" in section) == (to == "lab/wbc-lab-a")
    assert CITATION in section
    assert published_card(text, labs["lab_a"], place, is_benchmark=True) == text, "once only"
    assert "## Benchmark" not in published_card(own, labs["lab_a"], place)


def test_dataset_without_test_labels_is_not_called_a_benchmark(
    prepared: Mapping[str, Path], labs: Mapping[str, ArchiveSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_wbc.hub.publish_dataset._known_labels", lambda _: np.empty(0, np.int64))
    assert "## Benchmark" not in card(prepared["lab_a"], labs["lab_a"])


def test_card_of_earlier_release_is_completed_too(labs: Mapping[str, ArchiveSpec]) -> None:
    text = 'place = "build/lab_a"  # or\ncells = load_dataset(place, "cropped", split="train")\n'
    new = published_card(text, labs["lab_a"], card_location(TO))
    assert new.splitlines() == [
        'place = "lab/wbc-lab-a"',
        f'cells = load_dataset(place, "cropped", split="train", revision="{TAG}")',
    ]


def test_figure_shows_counts_of_rows(
    prepared: Mapping[str, Path], labs: Mapping[str, ArchiveSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hf_wbc.plots.class_distribution as plots

    drawn: list[Mapping[str, Mapping[str, int]]] = []
    draw = plots.draw_class_matrix

    def watch(counts: Mapping[str, Mapping[str, int]]) -> object:
        drawn.append(counts)
        return draw(counts)

    monkeypatch.setattr(plots, "draw_class_matrix", watch)
    text = card(prepared["lab_a"], labs["lab_a"])
    (counts,) = drawn
    assert list(counts) == ["train", "validation", "test"]
    table = re.findall(r"^\| (basophil|monocyte) \|.*$", text, re.MULTILINE)
    assert table == ["basophil", "monocyte"]
    for name in table:
        (line,) = re.findall(rf"^\| {name} \|.*$", text, re.MULTILINE)
        cells = [int(cell.split()[0]) for cell in line.strip("| ").split("|")[2:5]]
        assert cells == [counts[split][name] for split in counts]
    total = np.sum([sum(of.values()) for of in counts.values()])
    assert f"| Images | {total} |" in text


def test_restricted_dataset_card_has_gate_prompt(
    prepared: Mapping[str, Path], labs: Mapping[str, ArchiveSpec]
) -> None:
    private = replace(labs["lab_a"], redistributable=False)
    front = yaml.safe_load(card(prepared["lab_a"], private).split("---\n")[1])
    assert "agree to keep them to yourself" in front["extra_gated_prompt"]
    assert front["configs"] and front["license"] == "cc-by-4.0"
    assert "extra_gated_prompt" not in card(prepared["lab_a"], labs["lab_a"])
