"""DANN (Ganin et al. 2016): a domain discriminator, and features trained to confuse it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from hf_wbc.adaptation.losses import reversal_strength
from hf_wbc.adaptation.methods.dann import Discriminator, domain_adversarial_loss


def reference(
    z_s: np.ndarray, z_t: np.ndarray, w_s: np.ndarray | float = 1.0, w_t: np.ndarray | float = 1.0
) -> float:
    source, target = -w_s * np.log(expit(z_s)), -w_t * np.log(1 - expit(z_t))
    return float((source.mean() + target.mean()) / 2)


@pytest.mark.parametrize(("num_s", "num_t"), [(5, 5), (1, 4), (7, 2)])
def test_loss_and_gradient_match_binary_cross_entropy(
    num_s: int, num_t: int, assert_loss_is
) -> None:
    rng = np.random.default_rng(0)
    assert_loss_is(
        domain_adversarial_loss, reference, 3 * rng.normal(size=num_s), rng.normal(size=num_t)
    )


def test_weights_apply_to_samples(assert_loss_is) -> None:
    rng = np.random.default_rng(0)
    w_s, w_t = rng.uniform(0, 2, size=5), rng.uniform(0, 2, size=4)
    assert_loss_is(
        lambda z_s, z_t: domain_adversarial_loss(
            z_s, z_t, torch.from_numpy(w_s), torch.from_numpy(w_t)
        ),
        lambda z_s, z_t: reference(z_s, z_t, w_s, w_t),
        rng.normal(size=5), rng.normal(size=4),
    )  # fmt: skip


def test_unit_weights_change_nothing() -> None:
    z_s, z_t = torch.randn(5), torch.randn(3)
    assert torch.equal(
        domain_adversarial_loss(z_s, z_t, torch.ones(5)), domain_adversarial_loss(z_s, z_t)
    )


def test_undecided_discriminator_has_loss_ln_2() -> None:
    assert domain_adversarial_loss(torch.zeros(3), torch.zeros(8)).item() == pytest.approx(
        np.log(2)
    )


def test_certain_wrong_discriminator_has_finite_loss() -> None:
    assert domain_adversarial_loss(
        -1e4 * torch.ones(2), 1e4 * torch.ones(2)
    ).item() == pytest.approx(1e4)


def test_discriminator_gives_one_logit_per_sample() -> None:
    made = Discriminator(4, 16)
    assert made(torch.randn(3, 4)).shape == made(torch.randn(3, 4)).shape == (3,)
    assert made(torch.randn(1, 4)).shape == (1,)
    assert [m.out_features for m in made.layers if hasattr(m, "out_features")] == [16, 16, 1]


def plain(method, small, batch) -> torch.Tensor:
    """Return the discriminator loss without reversal."""
    z_s = method.discriminator(small(batch.source.inputs).features)
    return domain_adversarial_loss(z_s, method.discriminator(small(batch.target.inputs).features))


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.9])
def test_reversed_gradient_scales_with_progress(
    progress: float, make_method, small, make_batch
) -> None:
    method = make_method("dann", small, weight=2.0, width=32).eval()
    batch = replace(make_batch(), progress=progress)
    batch.target.inputs.requires_grad_()
    terms, expected = method(batch), plain(method, small, batch)
    torch.testing.assert_close(terms["domain"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 2 * expected)
    weights = [batch.target.inputs, *method.discriminator.parameters()]
    found = torch.autograd.grad(terms["loss"], weights)
    wanted = torch.autograd.grad(2 * expected, weights)
    assert wanted[0].abs().max() > 1e-5
    torch.testing.assert_close(found[0], -reversal_strength(progress, 10.0) * wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_only_reversal_confuses_the_discriminator(make_method, small, make_batch) -> None:
    """The domains differ in an input irrelevant to the labels, so features can ignore it."""
    batch = make_batch((0, 8) * 128, seed=1)
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 256, 6, generator=rng)
    inputs[:, 1::2, 0] += 6
    inputs[1, :, 1] += 3
    batch = replace(
        batch,
        source=replace(batch.source, inputs=inputs[0]),
        target=replace(batch.target, inputs=inputs[1]),
    )
    start = {key: value.clone() for key, value in small.state_dict().items()}
    found = {}
    for progress in (0.0, 0.9):
        small.load_state_dict(start)
        method = make_method("dann", small, width=32)
        optimizer = torch.optim.Adam(method.parameters(), 0.01)
        for _ in range(150):
            terms = method(replace(batch, progress=progress))
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
        found[progress] = terms["domain"].item()
    assert found[0.0] < 0.2
    assert found[0.9] == pytest.approx(np.log(2), abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight is -1; it must not be negative"),
        ({"gamma": 0}, "gamma is 0; it must be positive"),
        ({"width": 0}, "width is 0; it must be at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_options_out_of_range_are_refused(name, options, message, make_method, small) -> None:
    with pytest.raises(ValueError, match=message):
        make_method(name, small, **options)
