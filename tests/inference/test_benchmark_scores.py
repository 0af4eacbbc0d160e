"""A model is scored in laboratories with different classes, and by its features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_wbc.hub.benchmark import Benchmark
from hf_wbc.hub.result_entries import HOME, record_entries
from hf_wbc.inference.benchmark_scores import (
    MERGE,
    BenchmarkOptions,
    measure_model,
    scored_classes,
)
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NAMES, UNLABELED, class_id

TOY = str(shipped("spaces/wbc/toy_model"))


def test_merged_and_scored_classes_depend_on_the_laboratory() -> None:
    segmented, banded = class_id("neutrophil_segmented"), class_id("neutrophil_banded")
    labels = np.repeat([segmented, class_id("monocyte"), class_id("basophil")], [30, 10, 9])
    chosen = ("monocyte", "neutrophil_segmented")
    merge, classes = scored_classes(np.append(labels, UNLABELED), MERGE)
    assert (merge, sorted(classes)) == (MERGE, list(chosen))
    assert scored_classes(np.append(labels, banded), MERGE)[0] == ()
    assert scored_classes(labels[labels != class_id("basophil")], MERGE) == (MERGE, ())
    assert scored_classes(labels[:3], ()) == ((), ())


def test_records_of_two_laboratories_become_entries(
    make_domain: Callable[..., Any], tmp_path: Path
) -> None:
    refs = [
        str(make_domain(tmp_path / name, name=name, num_per_class=3, seed=seed))
        for seed, name in enumerate(("here", "there"))
    ]
    options = BenchmarkOptions(stress_cells=0, all_splits_elsewhere=True, runtime="torch")
    records = measure_model(TOY, refs, tmp_path / "out", options)
    assert [each["kind"] for each in records] == ["evaluation", "evaluation", "representation"]
    here, there, features = records
    assert (here["splits"], there["splits"]) == (["test"], ["train", "validation", "test"])
    assert there["scores"]["num_images"] == 3 * here["scores"]["num_images"]
    assert features["datasets"] == ["here", "there"] and 0 <= features["index"]["value"] <= 1
    assert features["num_cells"] == 4 * here["scores"]["num_images"]
    benchmarks = {name: Benchmark(f"lab/{name}", None, name) for name in ("here", "there")}
    entries = record_entries(records, benchmarks, here["model"]["revision"])
    assert [each["dataset"]["task_id"] for each in entries] == [
        "here", "there", "here__robustness_index",
    ]  # fmt: skip
    assert "revision" not in entries[0]["dataset"] and HOME not in entries[0]["notes"]
    assert "splits train, validation, test" in entries[1]["notes"]
    with pytest.raises(ValueError, match="each laboratory once"):
        measure_model(TOY, [refs[0], refs[0]], tmp_path / "out", options)
    assert len(NAMES) == here["scores"]["num_classes"]
