"""The dataset card: readable by `datasets` and the Hub, with every number taken from the rows."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard

from hf_wbc.data.schema import CONFIGS, SPLITS
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec, KnownFault
from hf_wbc.taxonomy import NAMES

Build = Callable[..., Path]


@pytest.fixture
def build(
    lab: Callable[..., ArchiveSpec], write: Build, files: Mapping[str, bytes], tmp_path: Path
) -> Build:
    """Prepare the synthetic archive with changed metadata, files, or flags."""

    def make(
        facts: Mapping[str, Any] | None = None,
        more: Mapping[str, bytes] | None = None,
        **flags: Any,
    ) -> Path:
        archive = write({**files, **(more or {})})
        return prepare(lab(**(facts or {})), archive, tmp_path / "out", num_proc=1, **flags)

    return make


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def table(text: str) -> dict[str, list[str]]:
    """Return the rows of the class matrix by their first cell."""
    part = text.partition("## Classes")[2].partition("##")[0]
    lines = [line.strip("| ").split("|") for line in part.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_class_matrix_counts_the_rows(build: Build) -> None:
    folder = build()
    rows = table(text_of(folder))
    assert rows["class"] == ["archive code", *SPLITS, "all"]
    assert list(rows)[2:] == [*NAMES, "**all**"]
    assert rows["basophil"] == ["BA", "7 (43.8%)", "1 (33.3%)", "2 (33.3%)", "10 (40.0%)"]
    assert rows["monocyte"] == ["", "0", "0", "0", "0"]
    assert rows["**all**"] == ["", "16 (64.0%)", "3 (12.0%)", "6 (24.0%)", "25 (100.0%)"]
    splits = load_dataset(str(folder))
    for label, name in enumerate(NAMES):
        counts = [rows["label"].count(label) for rows in map(as_columns, splits.values())]
        assert [int(cell.split()[0]) for cell in rows[name][1:4]] == counts


def as_columns(rows: Any) -> dict[str, list[Any]]:
    return {"label": list(rows["label"])}


def test_front_matter_describes_the_files(build: Build) -> None:
    folder = build()
    data = yaml.safe_load(text_of(folder).split("---")[1])
    assert data["license"] == "cc-by-4.0" and data["size_categories"] == ["n<1K"]
    assert [entry["config_name"] for entry in data["configs"] if entry.get("default")] == [
        "cropped"
    ]
    for info in data["dataset_info"]:
        paths = folder.glob(f"{info['config_name']}/*.parquet")
        assert info["download_size"] == sum(path.stat().st_size for path in paths)
        assert {s["name"]: s["num_examples"] for s in info["splits"]} == {
            "train": 16,
            "validation": 3,
            "test": 6,
        }
    assert {info["config_name"] for info in data["dataset_info"]} == set(CONFIGS)


def test_other_rows_have_another_version(build: Build, png: Callable[..., bytes]) -> None:
    versions = set()
    for changed in (None, {"BA/BA_00.png": png(500)}):
        folder = build(more=changed)
        versions |= set(re.findall(r"version: (1\.0\.\d+)", text_of(folder)))
        folder.rename(folder.with_name(f"was_{len(versions)}"))
    assert len(versions) == 2


def test_card_states_scale_splits_and_omissions(build: Build, files: Mapping[str, bytes]) -> None:
    skipped = KnownFault(("BA_77.png",), "not_an_image", "skip", "BA_77.png is a text.")
    more = {"BA/BA_77.png": b"text", "BA/BA_03.png": files["BA/BA_08.png"]}
    text = text_of(build({"faults": (skipped,)}, more, seed=3))
    for words in (
        "| Scale | 1.04167 um per pixel |",
        "the central 25 x 25 um (24x24 px) as PNG",
        "- train 70%, validation 10%, test 20%, stratified by class.",
        "SHA-256 of the seed (3) and their id",
        "2 images share their pixels with another one.",
        "- 2 images with the code PLT, which is outside the eleven classes",
        "- `BA_77.png`, a declared fault of the archive",
        "- All of it is drawn.",
        "- Declared fault: BA_77.png is a text.",
        "@misc{lab_a}",
    ):
        assert words in text
    for words in ("**Subset.**", "**Incomplete.**", "**Private.**", "Images of one group"):
        assert words not in text


def test_card_marks_subset_and_private_datasets_at_the_top(build: Build) -> None:
    head = text_of(build({"redistributable": False}, subset=True)).partition("| | |")[0]
    assert "\n> **Subset.** This folder was built from part of the archive: 25 images." in head
    assert "\n\n> **Private.**" in head


def test_source_without_scale_or_labels_is_described(build: Build) -> None:
    labels = {"BA": UNLABELED_CODE, "EO": UNLABELED_CODE, "MY": UNLABELED_CODE, "PLT": None}
    facts = {"um_per_px": None, "labels": labels, "used_counts": {UNLABELED_CODE: 25}}
    text = text_of(build(facts))
    assert "unknown; the cell fills the frame" in text
    assert "contains the whole frame, because the scale is unknown" in text
    assert set(table(text)) - {"class", "---"} == {UNLABELED_CODE, "**all**"}


def test_card_example_runs(
    build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = build()
    (code,) = re.findall(r"```python\n(.*?)```", text_of(folder), re.DOTALL)
    (folder.parent / "build").mkdir()
    folder.rename(folder.parent / "build" / "lab_a")
    monkeypatch.chdir(folder.parent)
    exec(compile(code, "README.md", "exec"), {})
    assert re.search(r"size=24x24.* (basophil|eosinophil|myelocyte)\n", capsys.readouterr().out)


def test_card_is_clean_markdown(build: Build) -> None:
    text = text_of(build(subset=True))
    DatasetCard(text)
    body = text.split("---", 2)[2]
    assert "\n\n\n" not in body and "{{" not in body and "{%" not in body and "None" not in body
    assert re.search(r"Built by `hf-wbc prepare` of hf_wbc [\d.]+\.\n$", body)
