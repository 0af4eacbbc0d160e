"""The acceptance report: plan, verdicts, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from hf_wbc.labeling.acceptance import (
    Limits,
    accept,
    cells_needed,
    check_report_folder,
    wilson_interval,
    write_acceptance,
)
from hf_wbc.labeling.drift import Baseline, build_baseline
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import answers_of
from hf_wbc.taxonomy import NAMES
from tests.support.shifted_laboratory import SEGMENTED, laboratory, source_head


def labeled(num: int, shift: float = 0.0, **options: object) -> Learner:
    pool = laboratory(600, shift=shift)
    found = Learner(pool, source_head(), random_share=1.0, **options)  # type: ignore[arg-type]
    found.tell_answers(answers_of(pool, found.next(num)))
    return found


def test_good_model_with_enough_labels_is_accepted() -> None:
    report = accept(labeled(500, adapts=False), "model", Limits(0.8, 0.8))
    assert report.verdict == "accepted"
    assert all(each.verdict == "met" for each in report.classes)


def test_bad_model_is_refused_with_its_worst_class_named() -> None:
    report = accept(labeled(300, shift=0.9, adapts=False), "model", Limits(0.9, 0.9))
    assert report.verdict == "refused"
    bad = [each.name for each in report.classes if each.verdict == "not met"]
    assert bad and any(bad[0] in reason for reason in report.reasons)


def test_few_labels_leave_verdict_open_and_state_how_many_more() -> None:
    report = accept(labeled(40, adapts=False), "model", Limits(0.8, 0.8))
    assert report.verdict == "open"
    missing = {each.name: each for each in report.classes}[NAMES[SEGMENTED]]
    assert missing.still_to_label and missing.needed == 60
    assert accept(labeled(5), "model", Limits()).verdict == "open"


def test_acceptance_counts_only_random_cells() -> None:
    pool = laboratory(300)
    found = Learner(pool, source_head(), random_share=0.0, adapts=False)
    found.tell_answers(answers_of(pool, found.next(100)))
    report = accept(found, "model", Limits())
    assert report.num_labels == 100 and report.num_random == len(found.sample) < 30


def test_narrower_intervals_need_more_cells() -> None:
    for num in (cells_needed(0.8, 0.1), cells_needed(0.8, 0.05)):
        low, high = wilson_interval(round(0.8 * num), num)
        assert (high - low) / 2 <= 0.1
    assert cells_needed(0.8, 0.05) > 3 * cells_needed(0.8, 0.1)


def test_report_is_written_completely(tmp_path: Path) -> None:
    found = labeled(100)
    report, out = accept(found, "runs/<b>/model", Limits()), tmp_path / "report"
    baseline = build_baseline(found.pool, None, "rev")
    write_acceptance(out, report, baseline, {"revision": "rev", "labels": "a.csv"})
    record = json.loads((out / "acceptance.json").read_text())
    assert record["verdict"] == report.verdict and record["revision"] == "rev"
    page = (out / "acceptance.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "segmented" in page and "http" not in page
    assert (Baseline.load(out / "baseline.npz").predicted == baseline.predicted).all()
    check_report_folder(out)
    write_acceptance(out, report, None, {"revision": "rev", "labels": "a.csv"})
    assert "too few cells" in (out / "acceptance.html").read_text()
    assert not (out / "baseline.npz").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="other"):
        check_report_folder(tmp_path / "other")


@pytest.mark.parametrize("limits", [{"macro_f1": 0.0}, {"recall": 1.5}, {"half_width": np.nan}])
def test_impossible_limits_are_reported(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        Limits(**limits)
