"""CDAN (Long et al. 2018): a discriminator of features multiplied by predictions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from hf_wbc.adaptation.losses import outer_product, random_outer_product, reversal_strength
from hf_wbc.adaptation.methods.cdan import entropy_weights
from hf_wbc.taxonomy import NUM_CLASSES


@pytest.mark.parametrize(("num", "d", "c"), [(4, 3, 5), (1, 2, 11), (6, 8, 2)])
def test_outer_product_matches_numpy(num: int, d: int, c: int, assert_loss_is) -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(num, c * d))

    def reference(f: np.ndarray, p: np.ndarray) -> float:
        rows = [np.outer(p[i], f[i]).ravel() for i in range(num)]
        return float((mix * np.array(rows)).sum())

    assert_loss_is(
        lambda f, p: (torch.from_numpy(mix) * outer_product(f, p)).sum(),
        reference,
        rng.normal(size=(num, d)), rng.dirichlet(np.ones(c), num),
    )  # fmt: skip


def test_certain_prediction_selects_one_block() -> None:
    f = torch.randn(3, 4)
    seen = outer_product(f, torch.eye(5)[[2, 0, 4]]).view(3, 5, 4)
    for row, block in enumerate((2, 0, 4)):
        assert torch.equal(seen[row, block], f[row])
        assert seen[row].count_nonzero() == 4


def test_random_product_preserves_inner_products() -> None:
    """In expectation: the error falls with the square root of the width."""
    rng = torch.Generator().manual_seed(0)
    f, p = torch.randn(6, 20, generator=rng), torch.rand(6, 5, generator=rng).softmax(1)
    exact = outer_product(f, p) @ outer_product(f, p).T
    errors = []
    for width in (100, 10_000, 1_000_000):
        r_f, r_p = (torch.randn(n, width, generator=rng) for n in (20, 5))
        mapped = random_outer_product(f, p, r_f, r_p)
        errors.append(((mapped @ mapped.T - exact).norm() / exact.norm()).item())
    assert errors[2] < 0.01
    assert all(3 < a / b < 40 for a, b in pairwise(errors))


def test_samples_are_weighted_by_one_plus_exp_of_minus_entropy(assert_loss_is) -> None:
    logits = 2 * np.random.default_rng(0).normal(size=(6, 4))
    mix = np.arange(6) - 2.0
    assert_loss_is(
        lambda z: (torch.from_numpy(mix) * entropy_weights(z.softmax(1))).sum(),
        lambda z: float((mix * (1 + np.exp(-entropy(softmax(z, axis=1), axis=1)))).sum()),
        logits,
    )


def test_entropy_weights_range_from_two_to_near_one() -> None:
    found = entropy_weights(torch.stack([torch.eye(5)[0], torch.ones(5) / 5]))
    torch.testing.assert_close(found, torch.tensor([2.0, 1.2]))


def plain(method, small, batch, with_entropy: bool) -> torch.Tensor:
    """Return the discriminator loss without reversal and without gradients through predictions."""
    parts = []
    for view, sign in ((batch.source, -1), (batch.target, 1)):
        features, logits = small(view.inputs)
        p = logits.detach().softmax(1)
        seen = torch.einsum("bc,bd->bcd", p, features).reshape(len(p), -1)
        loss = torch.log1p(torch.exp(sign * method.discriminator(seen)))
        w = torch.from_numpy(1 + np.exp(-entropy(p.numpy(), axis=1))).float()
        parts.append((w * loss).sum() / w.sum() if with_entropy else loss.mean())
    return (parts[0] + parts[1]) / 2


@pytest.mark.parametrize("with_entropy", [False, True])
def test_reversed_gradient_reaches_features_but_not_head(
    with_entropy: bool, make_method, small, make_batch
) -> None:
    with torch.no_grad():
        small.head.weight *= 5  # predictions with very different entropy
    method = make_method("cdan", small, entropy=with_entropy, weight=2.0, width=32).eval()
    batch = replace(make_batch(num_target=4), progress=0.3)
    batch.target.inputs.requires_grad_()
    terms = method(batch)
    expected = plain(method, small, batch, with_entropy)
    torch.testing.assert_close(terms["domain"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 2 * expected)
    weights = [batch.target.inputs, *method.discriminator.parameters()]
    found = torch.autograd.grad(terms["loss"], weights, retain_graph=True)
    wanted = torch.autograd.grad(2 * expected, weights)
    torch.testing.assert_close(found[0], -reversal_strength(0.3, 10.0) * wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one, other)
    (of_head,) = torch.autograd.grad(terms["loss"], small.head.weight)
    supervised = method.supervised_loss(small(batch.source.inputs), batch)
    (of_labels,) = torch.autograd.grad(supervised, small.head.weight)
    torch.testing.assert_close(of_head, of_labels)


def test_entropy_changes_the_loss(make_method, small, make_batch) -> None:
    with torch.no_grad():
        small.head.weight *= 5
    found = [
        make_method("cdan", small, entropy=on).eval()(make_batch())["domain"].item()
        for on in (False, True)
    ]
    assert found[0] != pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(("num_features", "is_random"), [(372, False), (373, True)])
def test_product_above_4096_is_randomly_mapped_to_1024(
    num_features: int, is_random: bool, make_method, small, make_batch
) -> None:
    wide = type(small)(6, num_features)
    method = make_method("cdan", wide)
    assert method.discriminator.layers[0].in_features == (
        1024 if is_random else NUM_CLASSES * num_features
    )
    assert ("map.r_f" in method.state_dict()) == is_random, "a resumed run needs the same map"
    assert torch.isfinite(method(make_batch())["loss"])
