"""Scores recomputed from single images match the record, in its classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.report.images import read_scored
from hf_wbc.taxonomy import class_id

MakeRun = Callable[..., Path]


def test_image_scores_reproduce_record(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, skill=0.6)
    (run,) = collect([tmp_path]).runs
    images = read_scored(run, "away")
    scores = run.record["results"]["away"]["test"]
    assert images.right.mean() == pytest.approx(scores["accuracy"])
    assert len(images.image_ids) == scores["num_images"]
    assert images.confidence == pytest.approx(images.probabilities.max(1))


def test_merged_classes_are_summed_and_chosen_classes_kept(
    tmp_path: Path, make_run: MakeRun
) -> None:
    merge, classes = ("basophil=eosinophil",), ("eosinophil", "monocyte")
    make_run(tmp_path, skill=0.6, merge=merge, classes=classes)
    (run,) = collect([tmp_path]).runs
    images, plain = read_scored(run, "away", merge=merge, classes=classes), read_scored(run, "away")
    scores = run.record["results"]["away"]["test"]
    assert images.right.mean() == pytest.approx(scores["accuracy"])
    assert set(images.labels) == {class_id(name) for name in classes}
    kept = np.isin(plain.labels, [0, 1, 9])
    assert images.probabilities[:, 1] == pytest.approx(plain.probabilities[kept, :2].sum(1))
    assert (images.probabilities[:, 0] == 0).all()
