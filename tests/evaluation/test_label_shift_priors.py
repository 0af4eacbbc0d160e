"""Prior estimates recover the target's within their intervals; violations are reported."""

import json

import numpy as np
import pytest
from scipy.special import softmax

from hf_wbc.evaluation.label_shift import METHODS, bbse, em, estimate_priors, rlls, total_variation
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.prior_estimators import bbse_priors, em_priors

SOURCE = np.array([0.3, 0.3, 0.2, 0.15, 0.05])
TARGET = np.array([0.03, 0.07, 0.1, 0.3, 0.5])


@pytest.fixture
def estimated(images):
    """Estimate priors from biased logits that are three times too confident."""

    def estimate(method, num_source=2000, num_target=2000, seed=0, target=TARGET, **options):
        source, labels = images(num_source, SOURCE, seed=2 * seed)
        unlabeled, _ = images(num_target, target, seed=2 * seed + 1)
        bias = np.array([0.5, 0, -0.5, 1, -1])
        return estimate_priors(method, 3 * source + bias, labels, 3 * unlabeled + bias, **options)

    return estimate


REPEATED = [
    pytest.param(name, marks=(pytest.mark.slow, pytest.mark.ci) if name == "rlls" else ())
    for name in METHODS
]
"""Estimators for hundreds of repetitions; RLLS solves a problem for each resample."""


def arrays(found):
    return (np.array(values, float) for values in (found.priors, found.low, found.high))


@pytest.mark.parametrize("method", REPEATED)
@pytest.mark.slow
@pytest.mark.ci
def test_priors_are_recovered_within_their_interval(method, estimated):
    inside = []
    for seed in range(100):
        _, low, high = arrays(estimated(method, 800, 800, seed, num_resamples=100))
        inside.append((low <= TARGET) & (high >= TARGET))
    # 90 % of the nominal 95 %, if the class is common enough for the normal approximation.
    assert (np.mean(inside, axis=0)[1:] >= 0.9 * 0.95).all()
    assert np.mean(inside) <= 0.99


@pytest.mark.parametrize("method", REPEATED)
@pytest.mark.slow
@pytest.mark.ci
def test_interval_width_matches_scatter_of_estimates(method, estimated):
    found = [estimated(method, 1500, 600, seed, num_resamples=100) for seed in range(60)]
    priors, low, high = np.array([list(arrays(one)) for one in found]).transpose(1, 0, 2)
    width = (high - low).mean(0)[2:] / (2 * 1.96)
    assert width == pytest.approx(priors.std(0)[2:], rel=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_more_images_narrow_the_interval(method, estimated):
    _, low, high = arrays(estimated(method, 300, 300))
    _, lower, higher = arrays(estimated(method, 6000, 6000))
    assert (higher - lower).mean() < 0.4 * (high - low).mean()


@pytest.mark.parametrize("method", METHODS)
def test_correction_improves_predictions_under_shift(method, images):
    source, labels = images(3000, SOURCE, spread=0.5)
    target, truth = images(3000, TARGET, seed=1, spread=0.5)
    # The posterior that a classifier learns from the source, here with the source's priors.
    source, target = source + np.log(SOURCE), target + np.log(SOURCE)
    found = estimate_priors(method, source, labels, target)
    before = score(truth, target.argmax(1))["accuracy"]
    assert score(truth, found.correct(target).argmax(1))["accuracy"] > before + 0.1


def test_bbse_is_exact_on_constructed_confusion():
    generator = np.random.default_rng(0)
    for k in (2, 5, 11):
        confusion = 0.6 * np.eye(k) + 0.4 * generator.dirichlet(np.ones(k), size=k).T
        truth = generator.dirichlet(np.ones(k))
        found = bbse_priors(confusion, confusion @ truth, np.full(k, 1 / k))
        assert found == pytest.approx(truth, abs=1e-6)


def test_bbse_counts_predictions_under_equal_priors():
    # Class 0 is predicted correctly 8 times out of 10, class 1 always; half is predicted 0.
    a, b = [3.0, 0.0], [0.0, 3.0]
    found = bbse([a] * 8 + [b] * 2 + [b] * 10, [0] * 10 + [1] * 10, [a, b] * 50)
    assert found.priors == pytest.approx([0.625, 0.375], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_singular_confusion_has_large_condition(method, images):
    source, labels = images(3000, [0.25] * 4, spread=1.5)
    target, _ = images(3000, [0.1, 0.5, 0.3, 0.1], seed=1, spread=1.5)
    blind = [logits[:, [0, 1, 2, 3, 3]] for logits in (source, target)]
    twins = np.where(labels == 3, 3 + np.arange(3000) % 2, labels)
    found = estimate_priors(method, blind[0], twins, blind[1])
    assert found.condition > 50 > estimate_priors(method, source, labels, target).condition
    priors = np.array(found.priors)
    assert priors[:3] == pytest.approx([0.1, 0.5, 0.3], abs=0.04)
    assert priors[3:].sum() == pytest.approx(0.1, abs=0.03)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_em_requires_calibration_of_overconfident_classifier(images):
    source, labels = images(4000, SOURCE, spread=0.5)
    target, truth = images(4000, TARGET, seed=1, spread=0.5)
    realised = np.bincount(truth) / 4000
    overconfident = 6 * (source + np.log(SOURCE)), 6 * (target + np.log(SOURCE))
    naive = em_priors(softmax(overconfident[1], axis=1) / SOURCE)[0]
    assert total_variation(naive / naive.sum(), realised) > 0.15
    found = em(overconfident[0], labels, overconfident[1])
    assert total_variation(found.priors, realised) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_class_without_source_images_is_not_identifiable(method, images):
    shares = np.array([0.2, 0.2, 0.1, 0, 0.1, 0.1, 0.05, 0.05, 0.1, 0.05, 0.05])
    source, labels = images(2000, shares)
    target, _ = images(500, np.full(11, 1 / 11), seed=1)
    found = estimate_priors(method, source, labels, target)
    assert found.unidentifiable == (3,) and found.num_source[3] == 0
    assert (found.priors[3], found.low[3], found.high[3]) == (0, None, None)
    assert sum(found.priors) == pytest.approx(1)
    assert (found.correct(target).argmax(1) != 3).all()
    values = found.to_dict()
    assert values["unidentifiable"] == ["myeloblast"]
    assert json.loads(json.dumps(values, allow_nan=False))["low"][3] is None


@pytest.mark.parametrize("method", METHODS)
def test_single_class_target_is_recognized(method, estimated):
    found = estimated(method, target=np.array([0, 0, 0, 1.0, 0]))
    assert found.priors[3] > 0.95
    assert found.high[3] > 0.99
    assert all(low < 0.01 for low in np.delete(found.low, 3))


@pytest.mark.parametrize("method", METHODS)
def test_one_target_image_leaves_wide_intervals(method, estimated):
    found = estimated(method, num_target=1)
    _, low, high = arrays(found)
    assert sum(found.priors) == pytest.approx(1)
    assert (high - low).max() > 0.5 and (low < 0.5).all()


@pytest.mark.parametrize("method", METHODS)
def test_equal_priors_are_recovered_from_any_source(method, estimated):
    found = estimated(method, 4000, 4000, target=np.full(5, 0.2))
    assert found.priors == pytest.approx([0.2] * 5, abs=0.06)


def test_class_with_one_source_image_is_scarce_and_less_certain(images):
    source, labels = images(2000, SOURCE)
    target, _ = images(2000, TARGET, seed=1)
    rare = (labels != 4) | (np.cumsum(labels == 4) == 1)
    many = bbse(source, labels, target)
    one = bbse(source[rare], labels[rare], target)
    assert one.num_source[4] == 1
    assert (many.scarce, one.scarce, one.to_dict()["scarce"]) == ((), (4,), [4])
    assert one.high[4] - one.low[4] > 1.5 * (many.high[4] - many.low[4])
    assert one.low[4] <= TARGET[4] <= one.high[4]


@pytest.mark.parametrize("method", METHODS)
def test_order_of_images_does_not_matter(method, images):
    source, labels = images(300, SOURCE)
    target, _ = images(200, TARGET, seed=1)
    rows = np.random.default_rng(0).permutation(300)
    first = estimate_priors(method, source, labels, target)
    assert estimate_priors(method, source[rows], labels[rows], target[::-1]) == first


@pytest.mark.parametrize("method", METHODS)
def test_order_of_classes_does_not_matter(method, images):
    source, labels = images(1000, SOURCE)
    target, _ = images(1000, TARGET, seed=1)
    first = estimate_priors(method, source, labels, target)
    turned = estimate_priors(method, source[:, ::-1], 4 - labels, target[:, ::-1])
    assert turned.priors[::-1] == pytest.approx(first.priors, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_interval_contains_estimate_and_widens_with_level(method, estimated):
    wide, narrow = (estimated(method, level=level) for level in (0.99, 0.5))
    priors, low, high = arrays(wide)
    assert ((low >= 0) & (low <= priors) & (priors <= high) & (high <= 1)).all()
    _, lower, higher = arrays(narrow)
    assert (higher - lower < high - low).all()


@pytest.mark.parametrize("method", METHODS)
def test_ks_limit_detects_other_images_but_not_other_priors(method, images, estimated):
    exceeded = []
    for seed in range(40):
        found = estimated(method, 600, 400, seed, num_resamples=1)
        exceeded.append(found.label_shift_ks > found.label_shift_ks_limit)
    assert np.mean(exceeded) <= 0.1
    source, labels = images(1000, SOURCE)
    target, _ = images(1000, TARGET, seed=1)
    # A target whose cells each look like a mixture of two classes.
    blurred = (target + target[:, ::-1]) / 2
    moved = estimate_priors(method, source, labels, blurred)
    assert moved.label_shift_ks > 2 * moved.label_shift_ks_limit
    assert moved.to_dict()["label_shift_ks"] == moved.label_shift_ks


def test_functions_match_named_methods(images):
    source, labels = images(200, SOURCE)
    for estimate, name in ((bbse, "bbse"), (em, "em"), (rlls, "rlls")):
        found = estimate(source, labels, source, num_resamples=20)
        assert found == estimate_priors(name, source, labels, source, num_resamples=20)
        assert found.method == name


LOGITS = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ems"}, "unknown prior estimator 'ems'; did you mean 'em'"),
        ({"method": "x"}, "choose from bbse, em, rlls"),
        ({"source_labels": [0]}, "one label for every image"),
        ({"source_labels": [0, 2]}, "label 2 in row 1"),
        ({"source_labels": [0, -1]}, "unlabeled images must be left out"),
        ({"source_logits": np.zeros((0, 2)), "source_labels": []}, "no source logits"),
        ({"source_logits": [[1.0, np.nan], [0, 1]]}, "source logits in row 0"),
        ({"target_logits": [[np.inf, 0.0]]}, "target logits in row 0"),
        ({"target_logits": np.zeros((0, 2))}, "no target logits"),
        ({"target_logits": [0.0, 1.0]}, "target logits have shape"),
        ({"target_logits": [[0.0, 1.0, 2.0]]}, "target logits have 3 classes instead of 2"),
        ({"level": 95}, "level is 95"),
        ({"num_resamples": 0}, "num_resamples is 0"),
    ],
)
def test_bad_input_is_reported(changes, message):
    good = {
        "method": "bbse",
        "source_logits": LOGITS,
        "source_labels": [0, 1],
        "target_logits": LOGITS,
    }
    with pytest.raises(ValueError, match=message):
        estimate_priors(**{**good, **changes})
