"""A published comparison: its tables load as a dataset, and its text is the card."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.export import write_comparison
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_comparison import ABOUT, comparison_publication
from hf_wbc.preparation.source import ArchiveSpec

TO = parse_destination("lab/wbc-study", "study")


@pytest.fixture(scope="session")
def comparison(runs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of `hf-wbc compare` for the two runs, without figures."""
    out = tmp_path_factory.mktemp("compared") / "comparison"
    write_comparison(out, compare(collect([runs["vit"].parent]), num_resamples=20))
    return out


@pytest.fixture
def own(comparison: Path, tmp_path: Path) -> Path:
    """Return a copy with a report that shows cells."""
    import shutil

    folder = tmp_path / "own"
    shutil.copytree(comparison, folder)
    (folder / "report.html").write_text("<p>cells</p>")
    return folder


def card(folder: Path, sources: Mapping[str, ArchiveSpec], **more: Any) -> str:
    file = comparison_publication(folder, TO, sources, **more).files["README.md"]
    assert isinstance(file, bytes)
    return file.decode()


def test_published_tables_load_from_the_hub_unchanged(
    hub: Any, comparison: Path, labs: Mapping[str, ArchiveSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.USE_PARQUET_EXPORT", False)
    publish(comparison_publication(comparison, TO, labs), TO)
    tables = [name for name in ABOUT if (comparison / f"{name}.parquet").is_file()]
    assert "rows" in tables
    for name in tables:
        rows = load_dataset("lab/wbc-study", name, split="table", revision="v1")
        written = pq.read_table(comparison / f"{name}.parquet").to_pylist()
        assert json.dumps(rows.to_list()) == json.dumps(written)
    default = load_dataset("lab/wbc-study", split="table", revision="v1")
    assert "macro_f1" in default.column_names


def test_snippet_runs(
    hub: Any,
    comparison: Path,
    labs: Mapping[str, ArchiveSpec],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("datasets.config.USE_PARQUET_EXPORT", False)
    publish(comparison_publication(comparison, TO, labs), TO)
    text = hub.repo("dataset", "lab/wbc-study").content("v1", "README.md").decode()
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


def test_card_contains_comparison_and_image_sources(
    comparison: Path, labs: Mapping[str, ArchiveSpec]
) -> None:
    text = card(comparison, labs)
    for line in (comparison / "comparison.md").read_text().splitlines():
        assert line in text
    assert "# Comparison of 2 runs" in text and "Finished runs: 2" in text
    assert "- Drawn cells of lab_a: `cc-by-4.0`, https://example.org" in text
    assert "@misc{lab_b" in text and "not a medical device" in text
    assert "\n\n\n" not in text and "{{" not in text


def test_tables_are_public_and_report_only_if_cells_are(
    comparison: Path,
    own: Path,
    labs: Mapping[str, ArchiveSpec],
    lab_private: Mapping[str, ArchiveSpec],
) -> None:
    assert comparison_publication(comparison, TO, {}).public is True
    assert comparison_publication(own, TO, labs).public is True
    assert comparison_publication(own, TO, {}).public is False
    assert comparison_publication(own, TO, lab_private).public is False
    assert "`report.html` is the complete comparison" in card(own, labs)
    with pytest.raises(ValueError, match="shows cells of lab_b, which may not be redistributed"):
        comparison_publication(own, TO, lab_private, public=True)


@pytest.fixture
def lab_private(labs: Mapping[str, ArchiveSpec]) -> Mapping[str, ArchiveSpec]:
    """Make one of the laboratories non-redistributable."""
    from dataclasses import replace

    return {**labs, "lab_b": replace(labs["lab_b"], redistributable=False)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "rows.parquet").unlink(), "not a folder that `hf-wbc compare`"),
        (
            lambda folder: (folder / "patients.csv").touch(),
            "contains patients.csv, which `hf-wbc co",
        ),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"PAR1"), "rows.parquet is damaged"),
    ],
)
def test_unrelated_folder_is_refused(
    own: Path, labs: Mapping[str, ArchiveSpec], change: Callable[[Path], Any], message: str
) -> None:
    change(own)
    with pytest.raises(ValueError, match=message):
        comparison_publication(own, TO, labs)
