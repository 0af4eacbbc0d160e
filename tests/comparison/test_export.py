"""Exported files contain exactly what the records state, with the same bytes in any location."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.document import Section, Strong, Table
from hf_wbc.comparison.export import check_output_folder, latex, markdown, write_comparison
from hf_wbc.records import RunFolder, write_json

MakeRun = Callable[..., Path]


@pytest.fixture
def runs(tmp_path: Path, make_run: MakeRun) -> Path:
    """Write two directions, three methods, two seeds, several rules, and an unfinished run."""
    root = tmp_path / "runs"
    for seed in (0, 1):
        for target in ("away", "elsewhere"):
            for method, skill in (("source_only", 0.2), ("coral", 0.6), ("dann", 0.9)):
                make_run(root, method, seed, target=target, skill=skill)
        make_run(root, "coral", seed, rule="im")
        make_run(root, "coral", seed, rule="oracle")
        make_run(root, "dann", seed, rule="last", exposed_to=("away",))
    make_run(root, "mcc", merge=("neutrophil_banded=neutrophil_segmented",), exposure="unknown")
    RunFolder(make_run(root, "unfinished_one")).record.unlink()
    return root


def written(out: Path, *roots: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a comparison."""
    write_comparison(out, compare(collect(roots), num_resamples=100))
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_same_records_give_same_bytes_in_any_location(tmp_path: Path, runs: Path) -> None:
    moved = Path(shutil.copytree(runs, tmp_path / "elsewhere" / "my runs"))
    first = written(tmp_path / "one", runs)
    assert {
        "comparison.md", "comparison.tex", "rows.csv", "rows.parquet", "differences.csv",
        "ranks.parquet", "rules_within_runs.csv", "rules_among_runs.csv", "problems.csv",
    } <= set(first)  # fmt: skip
    assert written(tmp_path / "two", moved) == first
    assert written(tmp_path / "one", runs) == first, "an earlier comparison is replaced"


def test_merged_folders_give_one_table_in_any_order(tmp_path: Path, runs: Path) -> None:
    whole = written(tmp_path / "whole", runs)
    for i, path in enumerate(sorted(runs.iterdir())):
        for person in ("alice", "bob"):
            if (person == "alice") == bool(i % 2) or not i % 3:  # a third is in both
                shutil.copytree(path, tmp_path / person / path.name)
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    assert written(tmp_path / "ab", alice, bob) == written(tmp_path / "ba", bob, alice) == whole


def test_no_file_contains_a_path_or_date(tmp_path: Path, runs: Path) -> None:
    for name, content in written(tmp_path / "out", runs).items():
        assert str(tmp_path).encode() not in content, name
        assert not re.search(rb"20\d\d-\d\d-\d\d", content), name


def test_csv_and_parquet_agree(tmp_path: Path, runs: Path) -> None:
    written(tmp_path / "out", runs)
    for path in (tmp_path / "out").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        table = pq.read_table(path.with_suffix(".parquet")).to_pylist()
        assert rows == [{k: "" if v is None else str(v) for k, v in row.items()} for row in table]


def test_excluded_folder_is_listed_in_every_format(tmp_path: Path, runs: Path) -> None:
    (problem,) = collect([runs]).problems
    content = written(tmp_path / "out", runs)
    for name in ("comparison.md", "comparison.tex", "problems.csv"):
        assert problem.place.encode() in content[name] and b"unfinished" in content[name]


def test_markdown_rows_have_as_many_cells_as_headings(tmp_path: Path, runs: Path) -> None:
    page = written(tmp_path / "out", runs)["comparison.md"].decode()
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) >= 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_latex_is_balanced_and_rows_match_columns(tmp_path: Path, runs: Path) -> None:
    paper = written(tmp_path / "out", runs)["comparison.tex"].decode()
    plain = re.sub(r"\\[{}\\&]", "", paper.replace("\\\\", ""))
    assert plain.count("{") == plain.count("}")
    assert paper.isascii(), "every sign is one that pdflatex knows"
    tables = re.findall(r"begin\{longtable\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{longtable", paper, re.S)
    assert len(tables) >= 8
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}


def test_results_using_target_labels_are_always_marked(tmp_path: Path, runs: Path) -> None:
    page = written(tmp_path / "out", runs)["comparison.md"].decode()
    blocks = re.split(r"^#+ ", page, flags=re.MULTILINE)
    tables = [re.findall(r"^\|.*", block, re.MULTILINE) for block in blocks]
    judged = [
        block for block, lines in zip(blocks, tables, strict=True) if "oracle" in " ".join(lines)
    ]
    assert len(judged) >= 4
    for block in judged:
        words = re.sub(r"^\|.*", "", block, flags=re.MULTILINE)
        assert "oracle" in words.lower(), block
    (picked,) = [b for b in blocks if b.startswith("Selected by target labels: not a valid result")]
    assert "Oracle" in picked and "coral" in picked


def test_exposed_rows_are_marked_and_explained(tmp_path: Path, runs: Path) -> None:
    page = written(tmp_path / "out", runs)["comparison.md"].decode()
    assert "| dann † | last |" in page and "† The backbone was pre-trained on" in page
    assert "| mcc ‡ | source\\_val |" in page and "‡ It is not recorded what" in page


def test_other_classes_have_a_separate_table(tmp_path: Path, runs: Path) -> None:
    page = written(tmp_path / "out", runs)["comparison.md"].decode()
    assert page.count("## home → away\n") == 2 and "merged: neutrophil\\_banded" in page


def test_unrelated_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(ValueError, match="was not created by `hf-wbc compare`"):
        check_output_folder(tmp_path)
    check_output_folder(tmp_path / "new")


def test_markup_characters_are_escaped() -> None:
    table = Table(("a_b",), (("x|y*z_ <p>",), (Strong("5 % & $3 #1 {~^}\\"),)))
    section = Section("one_two", 2, ("50 % → 1",), table)
    assert markdown([section]) == (
        "## one\\_two\n\n50 % → 1\n\n| a\\_b |\n| --- |\n"
        "| x\\|y\\*z\\_ \\<p> |\n| **5 % & $3 #1 {~^}\\\\** |\n"
    )
    text = latex([section])
    assert r"\subsection*{one\_two}" in text and r"50 \% $\rightarrow$ 1" in text
    assert (
        r"\textbf{5 \% \& \$3 \#1 \{\textasciitilde{}\textasciicircum{}\}\textbackslash{}} \\"
        in text
    )


def test_record_of_another_version_is_reported_on_the_page(tmp_path: Path, runs: Path) -> None:
    (run, *_) = collect([runs]).runs
    write_json(RunFolder(run.path).record, {**run.record, "version": 99})
    page = written(tmp_path / "out", runs)["comparison.md"].decode()
    assert f"| {run.name} | of another version: record.json has version 99" in page


def test_narrow_terminal_drops_wide_columns_in_order() -> None:
    table = Table(
        ("name", "one", "two", "three"), (("abcdef", "1", "22", "333"),), 1, ("two", "one")
    )
    assert table.fitting(80) == [0, 1, 2, 3] == table.fitting(6 + 3 + 3 + 5 + 3 * 2)
    assert table.fitting(22) == [0, 1, 3] and table.fitting(17) == [0, 3] == table.fitting(1)
