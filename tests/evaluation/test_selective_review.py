"""Risk-coverage and review curves equal the mean over random tie orders."""

import numpy as np
import pytest

from hf_wbc.evaluation.selective import (
    LINEAGE_LOSS,
    ReviewThreshold,
    aurc,
    lineage_losses,
    rate_for,
    recall_at,
    review,
    review_scores,
    risk_coverage,
    wanted_probability,
)
from hf_wbc.taxonomy import class_id


def loop_aurc(confidence, losses):
    """Apply the definition: the risk of the k most confident samples, for each k."""
    order = sorted(range(len(losses)), key=lambda i: -confidence[i])
    return np.mean([np.mean([losses[i] for i in order[:k]]) for k in range(1, len(order) + 1)])


def test_aurc_is_mean_risk_over_all_coverages():
    generator = np.random.default_rng(0)
    confidence, wrong = generator.random(60), generator.random(60) < 0.3
    assert aurc(confidence, wrong) == pytest.approx(loop_aurc(confidence, wrong), abs=1e-12)
    coverage, risk = risk_coverage(confidence, wrong)
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(wrong.mean())


def test_ties_count_as_mean_over_their_orders():
    generator = np.random.default_rng(0)
    confidence, wrong = generator.integers(0, 4, 30).astype(float), generator.random(30) < 0.4
    shuffled = []
    for _ in range(1000):
        broken = confidence + generator.random(30) * 1e-3
        shuffled.append(loop_aurc(broken, wrong))
    assert aurc(confidence, wrong) == pytest.approx(np.mean(shuffled), abs=4e-3)


def test_order_of_images_does_not_matter():
    confidence, wrong = np.array([0.5, 0.5, 0.5, 0.9]), np.array([1, 0, 0, 1])
    assert aurc(confidence, wrong) == aurc(confidence[::-1], wrong[::-1])


def test_perfect_order_beats_random_order_beats_the_worst():
    wrong = np.repeat([0, 1], [80, 20])
    best, worst = aurc(1.0 - wrong, wrong), aurc(1.0 * wrong, wrong)
    assert best < aurc(np.zeros(100), wrong) < worst
    assert aurc(np.zeros(100), wrong) == pytest.approx(0.2)


def test_wrong_lineage_costs_three_times_a_maturation_step():
    ids = [class_id(name) for name in ("myelocyte", "metamyelocyte", "basophil", "monocyte")]
    found = lineage_losses(np.array([ids[0]] * 4), np.array(ids))
    assert found == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (LINEAGE_LOSS == LINEAGE_LOSS.T).all()


def test_recall_and_rate_match_manual_count():
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    wanted = [1, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert recall_at(scores, wanted, [0, 0.1, 0.3, 0.35, 1]) == pytest.approx(
        [0, 1 / 3, 2 / 3, 2 / 3, 1]
    )
    assert rate_for(scores, wanted, [0.3, 0.5, 1]) == pytest.approx([0.1, 0.3, 0.8])


def test_rates_are_floored_without_rounding_errors():
    scores, wanted = np.arange(100.0), np.arange(100) >= 71
    for num in range(0, 30):
        assert recall_at(scores, wanted, [num / 100]) == pytest.approx([num / 29])


def test_tied_scores_have_recall_equal_to_rate():
    wanted = np.arange(20) < 5
    assert recall_at(np.zeros(20), wanted, [0.25, 0.5]) == pytest.approx([0.25, 0.5])


def test_threshold_finds_nominal_share_of_blasts():
    generator = np.random.default_rng(0)

    def draw(num):
        labels = generator.integers(3, size=num)
        return generator.normal(size=(num, 3)) + 2 * np.eye(3)[labels], labels

    found = []
    for _ in range(300):
        kept = review(*draw(300), wanted=[1, 2], recall=0.9)
        logits, labels = draw(100)
        found.append(kept.reviews(logits)[labels > 0].mean())
    assert np.mean(found) == pytest.approx(0.9, abs=0.01)


def test_every_cell_is_reviewed_with_too_few_blasts():
    few = review(np.zeros((30, 2)), [0] * 12 + [1] * 18, wanted=[1])
    assert few.threshold is None and few.reviews([[99.0, -99.0]]).all()
    assert review(np.zeros((30, 2)), [0] * 11 + [1] * 19, wanted=[1]).threshold == 0.5


def test_wanted_probability_is_summed_over_classes():
    assert wanted_probability(np.log([[0.5, 0.3, 0.2]]), [1, 2]) == pytest.approx([0.5])


def test_review_scores_lie_on_one_curve():
    generator = np.random.default_rng(0)
    wanted = generator.random(400) < 0.1
    scores = generator.random(400) + wanted
    found = review_scores(scores, wanted)
    assert found["num"] == wanted.sum()
    curve = dict(zip(found["curve"]["rate"], found["curve"]["recall"], strict=True))
    assert found["recall_at_rate"]["0.1"] == curve[0.1] and curve[0.0] == 0 and curve[1.0] == 1
    assert recall_at(scores, wanted, [found["rate_for_recall"]["0.95"]])[0] >= 0.95
    assert review_scores(scores, np.zeros(400, bool)) is None


def test_bad_input_is_reported():
    with pytest.raises(ValueError, match="some are NaN"):
        aurc([np.nan], [0])
    with pytest.raises(ValueError, match="at least one image"):
        aurc([], [])
    with pytest.raises(ValueError, match="one of each per image"):
        aurc([0.1, 0.2], [0])
    with pytest.raises(ValueError, match="no image is of a wanted class"):
        recall_at([0.1], [0], [0.5])
    with pytest.raises(ValueError, match=r"recall is 1\.5"):
        review([[0.0, 1.0]], [1], [1], 1.5)
    with pytest.raises(ValueError, match="not finite"):
        ReviewThreshold((0,), 0.95, 0.5).reviews([[np.nan, 0.0]])
