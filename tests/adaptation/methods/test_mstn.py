"""MSTN: align the centroids of each class, except classes that a source lacks."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hf_wbc.adaptation.methods.mstn import mstn_loss, update_fading_sums
from hf_wbc.taxonomy import NUM_CLASSES

MISSING = 3
"""Class missing from the first source; see `default_info`."""


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 5, 1), (3, 2, 6)])
def test_loss_and_gradient_match_mean_squared_difference(shape, assert_loss_is) -> None:
    rng = np.random.default_rng(0)
    matched = rng.uniform(size=shape[:2])

    def reference(c_s: np.ndarray, c_t: np.ndarray) -> float:
        pairs = [(s, c) for s in range(shape[0]) for c in range(shape[1])]
        each = [np.mean((c_s[s, c] - c_t[c]) ** 2) for s, c in pairs]
        return float(np.average(each, weights=[matched[pair] for pair in pairs]))

    assert_loss_is(
        lambda c_s, c_t: mstn_loss(c_s, c_t, torch.from_numpy(matched)),
        reference, rng.normal(size=shape), rng.normal(size=shape[1:]),
    )  # fmt: skip


def test_fully_matched_loss_equals_authors_loss() -> None:
    c_s, c_t = torch.randn(1, 5, 4), torch.randn(5, 4)
    expected = torch.nn.functional.mse_loss(c_s[0], c_t)
    torch.testing.assert_close(mstn_loss(c_s, c_t, torch.ones(1, 5)), expected)


def test_loss_is_zero_without_matches() -> None:
    assert mstn_loss(torch.randn(2, 5, 4), torch.randn(5, 4), torch.zeros(2, 5)) == 0


def test_centroids_move_as_in_paper_for_equally_frequent_classes() -> None:
    """A centroid becomes theta * old + (1 - theta) * batch once the sums converge."""
    rng, theta = np.random.default_rng(0), 0.7
    member = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    sums, moving = torch.zeros(3, 5, dtype=torch.float64), np.zeros((3, 4))
    for _ in range(120):
        f = rng.normal(size=(6, 4))
        sums = update_fading_sums(sums, torch.from_numpy(f), member, theta)
        moving = theta * moving + (1 - theta) * (f[:3] + f[3:]) / 2
    np.testing.assert_allclose(sums[:, :4] / sums[:, 4:], moving, atol=1e-12)


def test_class_missing_from_batch_keeps_its_centroid() -> None:
    member = torch.eye(2)
    sums = update_fading_sums(torch.zeros(2, 4), torch.randn(2, 3), member, 0.5)
    after = update_fading_sums(sums, torch.randn(2, 3), member[[0, 0]], 0.5)
    torch.testing.assert_close(after[1, :3] / after[1, 3], sums[1, :3] / sums[1, 3])
    assert not torch.allclose(after[0, :3] / after[0, 3], sums[0, :3] / sums[0, 3])


def test_method_matches_each_source_with_corrected_target(make_method, small, make_batch) -> None:
    labels, domains = (0, 3, 8, 8, 8, 9), (0, 1, 0, 1, 0, 1)
    batch = make_batch(labels, domains=domains, progress=0.9)
    method = make_method("mstn", small, weight=2.0).eval()
    terms = method(batch)
    with torch.no_grad():
        f_s = small(batch.source.inputs).features.double().numpy()
        f_t, z_t = (part.double().numpy() for part in small(batch.target.inputs))
    ratio = (method.priors.pi / method.priors.source).double().numpy()
    p = softmax(z_t, axis=1) * ratio
    p /= p.sum(1, keepdims=True)
    top = bottom = 0.0
    for source in (0, 1):
        for c in range(NUM_CLASSES):
            mine = [i for i in range(6) if (domains[i], labels[i]) == (source, c)]
            if mine:
                distance = np.mean((f_s[mine].mean(0) - p[:, c] @ f_t / p[:, c].sum()) ** 2)
                counts = len(mine) / (len(mine) + 1) * p[:, c].sum() / (p[:, c].sum() + 1)
                top, bottom = top + counts * distance, bottom + counts
    assert terms["semantic"].item() == pytest.approx(top / bottom, rel=1e-4)
    strength = 2 * np.tanh(10 * 0.9 / 2)
    expected = terms["supervised"] + strength * terms["semantic"]
    torch.testing.assert_close(terms["loss"].detach(), expected.float())


def test_class_missing_from_source_exerts_no_pull(
    make_method, make_info, small, make_batch
) -> None:
    """The source without that class exerts no pull on a target sample that looks like it."""
    only = torch.full((1, NUM_CLASSES), 50)
    only[0, MISSING] = 0
    batch = make_batch((0, 8, 9, 10), num_target=1, domains=(0,) * 4, progress=0.9)
    found = {}
    for lacks in (True, False):
        method = make_method("mstn", small)
        counts = only if lacks else torch.full_like(only, 50)
        method.setup(make_info(source_domains=("a",), class_counts=counts))
        method.eval()
        with torch.no_grad():
            small.head.bias.zero_()
            small.head.bias[MISSING] = 60  # the target is predicted as the missing class
            if not lacks:  # otherwise an earlier batch of the source would have shown the class
                method.sums_s[MISSING] = 5.0
        output_s, output_t = method.forward_source_target(batch)
        f_t = output_t.features.detach().requires_grad_()
        outputs = (output_s, output_t._replace(features=f_t))
        method.forward_source_target = lambda _, outputs=outputs: outputs
        (found[lacks],) = torch.autograd.grad(method(batch)["loss"], f_t)
    assert found[True].abs().max() < 1e-6
    assert found[False].abs().max() > 1e-2


def test_missing_class_has_no_centroid_in_its_source(make_method, small, make_batch) -> None:
    method = make_method("mstn", small).eval()
    method(make_batch((0, MISSING, 8, MISSING, 9, 10), domains=(0, 1, 0, 0, 1, 1)))
    sums = method.sums_s.view(2, NUM_CLASSES, -1)
    assert not sums[0, MISSING].any()
    assert sums[1, MISSING, -1] == 1


def test_loss_has_gradient_in_target(make_method, small, make_batch) -> None:
    batch = make_batch(progress=0.9)
    batch.target.inputs.requires_grad_()
    method = make_method("mstn", small).eval()
    (gradient,) = torch.autograd.grad(method(batch)["loss"], batch.target.inputs)
    assert gradient.abs().sum() > 0


def test_centroids_are_saved(make_method, small, make_batch) -> None:
    """A resumed run therefore yields bit-identical results."""
    one = make_method("mstn", small).eval()
    one(make_batch())
    other = make_method("mstn", small).eval()
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other(make_batch(seed=1)), one(make_batch(seed=1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight is -1; it must not be negative"),
        ({"theta": 1}, r"theta is 1; it must be in \[0, 1\)"),
        ({"gamma": 0}, "gamma is 0; it must be positive"),
        ({"momentum": 1}, r"momentum is 1; it must be in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message, make_method, small) -> None:
    with pytest.raises(ValueError, match=message):
        make_method("mstn", small, **options)
