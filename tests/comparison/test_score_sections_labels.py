"""Runs that were trained on target labels are compared among themselves only."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import Comparison, compare
from hf_wbc.comparison.export import flat_tables, markdown
from hf_wbc.comparison.score_sections import label_budget_section
from hf_wbc.comparison.sections import sections


@pytest.fixture(scope="module")
def found(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("runs")
    for number, skill in ((0, 0.4), (50, 0.7), (200, 0.9)):
        for method in ("source_only", "dann"):
            make_run(root, method, skill=skill, num_target_labels=number)
    make_run(root, "coral", skill=0.5)
    return compare(collect([root]), num_resamples=50)


def test_each_number_of_labels_is_tested_separately(found: Comparison) -> None:
    families = {each.setting.num_target_labels: each for each in found.families}
    assert set(families) == {0, 50, 200} and len(found.families) == 3
    assert set(families[0].names) == {"source_only", "dann", "coral"}
    assert set(families[50].names) == {"source_only", "dann"}
    assert {test.num_target_labels for test in found.rank_tests} == {0, 50, 200}
    assert {row["num_target_labels"] for row in flat_tables(found)["rows"]} == {0, 50, 200}


def test_table_has_a_column_for_each_number_of_labels(found: Comparison) -> None:
    section = label_budget_section(found)
    assert section is not None and section.table is not None
    assert section.table.headings[-3:] == ("0 labels", "50 labels", "200 labels")
    by_method = {line[1]: line[-3:] for line in section.table.cells}
    assert set(by_method) == {"source_only", "dann"}  # coral has seen none
    assert all(all(line) for line in by_method.values())
    text = markdown(sections(found))
    assert "away with 50 labels" in text and "By number of target labels" in text


def test_no_table_without_target_labels(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run(tmp_path)
    assert label_budget_section(compare(collect([tmp_path]), num_resamples=10)) is None
