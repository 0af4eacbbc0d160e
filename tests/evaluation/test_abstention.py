"""Saved settings round-trip; merged classes score as if they had always been one class."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from hf_wbc.evaluation.abstention import Abstention, abstention_scores, fit_abstention
from hf_wbc.evaluation.calibration import NEVER, expected_calibration_error
from hf_wbc.evaluation.selective import aurc
from hf_wbc.taxonomy import NAMES, UNLABELED, class_id

BLAST, BAND, SEGMENTED = map(class_id, ("myeloblast", "neutrophil_banded", "neutrophil_segmented"))


def images(num, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(11, size=num)
    return generator.normal(size=(num, 11)) + 2 * np.eye(11)[labels], labels


@pytest.fixture(scope="module")
def found():
    return fit_abstention(*images(600), 1.7, {"away": np.full(11, 1 / 11)})


def test_abstention_round_trips_through_json(found):
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert Abstention.from_dict(json.loads(text)) == found
    logits, _ = images(50, seed=1)
    again = Abstention.from_dict(json.loads(text))
    assert (again.sets["class"].sets(logits) == found.sets["class"].sets(logits)).all()


def test_settings_of_another_version_are_reported(found):
    for damage in ({"sets": {}}, {**found.to_dict(), "rejection": {"limit": 3}}):
        with pytest.raises(ValueError, match="damaged or of another version"):
            Abstention.from_dict(damage)


@pytest.mark.parametrize(
    "value", ["x", {}, True, 10**400, float("nan"), [1]], ids=lambda v: str(v)[:5]
)
def test_settings_of_other_types_are_reported(found, value):
    facts = found.to_dict()
    sets, review = facts["sets"]["class"], facts["reviews"]["immature"]
    for damage in (
        {"rejection": {**facts["rejection"], "threshold": value}},
        {"sets": {"class": {**sets, "thresholds": [value, *sets["thresholds"][1:]]}}},
        {"sets": {"class": {**sets, "thresholds": sets["thresholds"][1:]}}},
        {"sets": {"class": {**sets, "score": value}}},
        {"reviews": {"immature": {**review, "threshold": value}}},
        {"reviews": {"immature": {**review, "wanted": [value]}}},
    ):
        with pytest.raises(ValueError, match="damaged or of another version"):
            Abstention.from_dict({**facts, **damage})


def test_scores_on_source_reach_nominal_rates(found):
    scores = abstention_scores(found, "home", *images(4000, seed=2))
    assert set(scores["conformal"]) == {"marginal", "class"}, "those for another target are not its"
    assert scores["conformal"]["marginal"]["coverage"] == pytest.approx(0.9, abs=0.04)
    assert min(scores["conformal"]["class"]["class_coverage"]) > 0.75
    assert scores["rejected"] == pytest.approx(0.05, abs=0.03)
    assert scores["review"]["myeloblast"]["found"] == pytest.approx(0.95, abs=0.05)
    json.dumps(scores, allow_nan=False)


def test_unmerged_scores_match_plain_functions(found):
    logits, labels = images(300, seed=3)
    scores = abstention_scores(found, "away", logits, labels, before=1.7 * logits)
    p = softmax(logits, axis=1)
    wrong = p.argmax(1) != labels
    assert scores["ece"] == {
        "before": pytest.approx(expected_calibration_error(1.7 * logits, labels)),
        "after": pytest.approx(expected_calibration_error(logits, labels)),
    }
    assert scores["aurc"] == pytest.approx(aurc(p.max(1), wrong))
    assert scores["overconfidence"] == pytest.approx(p.max(1).mean() - 1 + wrong.mean())
    sets = found.sets["label_shift/away"].sets(logits)
    assert scores["conformal"]["label_shift/away"]["coverage"] == pytest.approx(
        sets[np.arange(300), labels].mean()
    )


def test_merged_classes_share_probability_and_set_membership(found):
    """Check against a classifier whose columns are summed manually."""
    logits, labels = images(300, seed=4)
    merge = ["neutrophil_banded=neutrophil_segmented"]
    scores = abstention_scores(found, "home", logits, labels, merge=merge)
    p = softmax(logits, axis=1)
    p[:, SEGMENTED] += p[:, BAND]
    p[:, BAND] = 0
    true = np.where(labels == BAND, SEGMENTED, labels)
    assert scores["nll"]["after"] == pytest.approx(-np.log(p[np.arange(300), true]).mean())
    sets = found.sets["marginal"].sets(logits)
    sizes = sets.sum(1) - (sets[:, BAND] & sets[:, SEGMENTED])
    assert scores["conformal"]["marginal"]["mean_size"] == pytest.approx(sizes.mean())
    assert scores["conformal"]["marginal"]["class_coverage"][BAND] is None


def test_only_labeled_images_of_chosen_classes_count(found):
    logits, labels = images(300, seed=5)
    hidden = np.where(labels == BLAST, UNLABELED, labels)
    chosen = [name for name in NAMES if name != "myeloblast"]
    scores = [
        abstention_scores(found, "home", logits, hidden),
        abstention_scores(found, "home", logits, labels, classes=chosen),
        abstention_scores(found, "home", logits[labels != BLAST], labels[labels != BLAST]),
    ]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0]["review"]["myeloblast"]["found"] is None
    assert abstention_scores(found, "home", logits, np.full(300, UNLABELED)) is None


def test_untrained_class_is_reported():
    logits, labels = images(600)
    logits, labels = logits[labels != BLAST], labels[labels != BLAST]
    logits[:, BLAST] = NEVER
    found = fit_abstention(logits, labels, 1.0)
    assert found.reviews["myeloblast"].threshold is None, "every cell is reviewed"
    scores = abstention_scores(found, "home", logits, labels)
    assert not scores["review"]["myeloblast"]["taught"] and scores["review"]["immature"]["taught"]
    assert not any(sets.sets(logits)[:, BLAST].any() for sets in found.sets.values())
    assert replace(found, temperature=2.0) != found
