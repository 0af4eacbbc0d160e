"""Methods are compared only on the same images under matching conditions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import Comparison, compare
from hf_wbc.records import RunFolder

MakeRun = Callable[..., Path]


def compared(root: Path, **options: object) -> Comparison:
    return compare(collect([root]), **{"num_resamples": 300, **options})


def test_much_better_method_is_significant(tmp_path: Path, make_run: MakeRun) -> None:
    for method, skill in (("source_only", 0.2), ("coral", 0.25), ("dann", 0.95)):
        for seed in (0, 1):
            make_run(tmp_path, method, seed, skill=skill)
    (family,) = compared(tmp_path).families
    assert family.baseline is not None and family.names[family.baseline] == "source_only"
    real = {family.names[each.one]: each.is_significant for each in family.against}
    assert real == {"dann": True, "coral": False}
    assert len(family.pairs) == 3 and len(family.against) == 2
    for each in family.pairs:
        one, other = family.entries[each.one], family.entries[each.other]
        assert each.value == pytest.approx(one.macro_f1 - other.macro_f1)


def test_seeds_are_averaged_within_a_resample(tmp_path: Path, make_run: MakeRun) -> None:
    one = np.zeros(60, int)
    for seed in (0, 1):
        make_run(tmp_path, "source_only", seed, predicted=one)
        make_run(tmp_path, "coral", seed, predicted=one + (9 if seed else 0))
    (pair,) = compared(tmp_path).families[0].pairs
    twice = 2 * abs(pair.value)
    make_run(tmp_path / "single", "source_only", predicted=one)
    make_run(tmp_path / "single", "coral", predicted=one + 9)
    (alone,) = compared(tmp_path / "single").families[0].pairs
    assert twice == pytest.approx(abs(alone.value))
    assert 2 * (pair.high - pair.low) == pytest.approx(alone.high - alone.low)


@pytest.mark.parametrize(
    "other",
    [
        {"versions": {"away": "another"}},
        {"target": "elsewhere"},
        {"model": "nets/other"},
        {"trainable": "frozen"},
        {"rule": "im"},
        {"rule": "oracle"},
        {"classes": ("basophil", "monocyte")},
    ],
)
def test_runs_under_other_conditions_are_not_tested(
    tmp_path: Path, make_run: MakeRun, other: dict[str, object]
) -> None:
    make_run(tmp_path, "source_only")
    make_run(tmp_path, "coral", **other)
    families = compared(tmp_path).families
    assert len(families) == 2 and not any(family.pairs for family in families)


def test_rules_with_same_information_are_tested_together(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "coral", rule="source_val")
    make_run(tmp_path, "coral", rule="last")
    (family,) = compared(tmp_path).families
    assert set(family.names) == {"coral @ source_val", "coral @ last"}


def test_another_baseline_can_be_chosen(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "source_only")
    make_run(tmp_path, "coral")
    (family,) = compared(tmp_path, baseline="coral").families
    assert [family.names[each.one] for each in family.against] == ["source_only"]
    with pytest.raises(ValueError, match=r"baseline 'nope'; choose from coral, source_only"):
        compared(tmp_path, baseline="nope")


def test_pairs_are_tested_without_the_default_baseline(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "dann")
    make_run(tmp_path, "coral")
    (family,) = compared(tmp_path).families
    assert family.baseline is None and not family.against and len(family.pairs) == 1


def test_missing_predictions_leave_scores_but_no_test(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "source_only")
    RunFolder(make_run(tmp_path, "coral")).predictions.unlink()
    found = compared(tmp_path)
    assert {row.method for row in found.rows} == {"source_only", "coral"}
    assert found.families[0].untested == ("coral",) and not found.families[0].pairs
    (problem,) = found.problems
    assert "predictions.parquet is missing" in problem.what


def test_predictions_contradicting_the_record_are_reported(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "source_only")
    path = make_run(tmp_path, "coral", skill=0.9)
    table = pq.read_table(RunFolder(path).predictions)
    changed = table.set_column(table.column_names.index("predicted"), "predicted", table["label"])
    pq.write_table(changed, RunFolder(path).predictions)
    found = compared(tmp_path)
    assert found.families[0].untested == ("coral",)
    (problem,) = found.problems
    assert problem.place == path.name and "does not reproduce the macro-F1 on away" in problem.what


def test_internally_damaged_predictions_are_reported(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "source_only")
    path = RunFolder(make_run(tmp_path, "coral")).predictions
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    found = compared(tmp_path)
    assert found.families[0].untested == ("coral",)
    assert "damaged: predictions.parquet" in found.problems[0].what
    assert str(tmp_path) not in found.problems[0].what


def test_known_groups_are_resampled(tmp_path: Path, make_run: MakeRun) -> None:
    def patients(domain: str) -> list[str | None]:
        return [f"patient {i // 6}" for i in range(60)]

    for method in ("source_only", "coral"):
        make_run(tmp_path / "known", method, groups=patients)
        make_run(tmp_path / "unknown", method, groups=lambda domain: [None] * 60)
    assert compared(tmp_path / "known").families[0].unit == "group"
    assert compared(tmp_path / "unknown").families[0].unit == "image"


def test_methods_are_ranked_over_directions_and_seeds(tmp_path: Path, make_run: MakeRun) -> None:
    for target in ("away", "elsewhere"):
        for seed in (0, 1, 2):
            for method, skill in (("source_only", 0.1), ("coral", 0.5), ("dann", 1.0)):
                make_run(tmp_path, method, seed, target=target, skill=skill)
    (test,) = compared(tmp_path).rank_tests
    assert test.ranking is not None and test.ranking.names == ("dann", "coral", "source_only")
    assert test.ranking.num_blocks == 6 and test.ranking.mean_ranks == (1, 2, 3)
    assert test.ranking.differ(0, 2)


def test_incomplete_methods_and_blocks_are_left_out_by_name(
    tmp_path: Path, make_run: MakeRun
) -> None:
    for seed in (0, 1):
        for method in ("source_only", "coral", "dann", "mcc"):
            if (method, seed) != ("mcc", 1):
                make_run(tmp_path, method, seed)
    make_run(tmp_path, "coral", seed=2)
    (test,) = compared(tmp_path).rank_tests
    assert test.left_out == ("mcc",) and [seed for _, seed in test.blocks] == [0, 1]
    assert [seed for _, seed in test.left_out_blocks] == [2]


def test_comparison_without_finished_runs_is_refused(tmp_path: Path, make_run: MakeRun) -> None:
    RunFolder(make_run(tmp_path)).record.unlink()
    with pytest.raises(
        ValueError, match=r"none of the 1 folders contains a finished run: .* unfinished"
    ):
        compared(tmp_path)
