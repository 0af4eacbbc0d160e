"""JAN (Long et al. 2017): the joint discrepancy of features and predictions."""

from itertools import permutations

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.methods.jan import joint_mmd


def reference(
    f_s: np.ndarray, p_s: np.ndarray, f_t: np.ndarray, p_t: np.ndarray, scale: float,
    w_s: np.ndarray | None = None,
) -> float:  # fmt: skip
    """Compute the double sums of the kernel product with fixed bandwidths."""

    def k(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
        of_f = np.sum((one[0] - two[0]) ** 2)
        of_p = np.sum((one[1] - two[1]) ** 2)
        many = sum(np.exp(-of_f / (2 * a * scale)) for a in (0.125, 0.25, 0.5, 1, 2))
        return float(many * np.exp(-of_p / (2 * 0.92**2)))

    w = np.ones(len(f_s)) if w_s is None else w_s
    s, t = list(zip(f_s, p_s, strict=True)), list(zip(f_t, p_t, strict=True))
    within_s = [(w[i] * w[j], k(s[i], s[j])) for i, j in permutations(range(len(s)), 2)]
    within_t = [k(*pair) for pair in permutations(t, 2)]
    across = [(w[i], k(s[i], y)) for i in range(len(s)) for y in t]
    value = np.average([v for _, v in within_s], weights=[v for v, _ in within_s])
    value += np.mean(within_t)
    return float(value - 2 * np.average([v for _, v in across], weights=[v for v, _ in across]))


def draw(num_s: int, num_t: int, d: int, c: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    p_s, p_t = rng.dirichlet(np.ones(c), num_s), rng.dirichlet(np.ones(c), num_t)
    return rng.normal(size=(num_s, d)), p_s, rng.normal(size=(num_t, d)) + 0.5, p_t


def spread(f_s: np.ndarray, f_t: np.ndarray) -> float:
    both = np.concatenate([f_s, f_t])
    return float(((both[:, None] - both[None]) ** 2).sum(2).mean())


@pytest.mark.parametrize("shape", [(5, 5, 3, 4), (3, 6, 1, 2), (4, 2, 6, 11)])
def test_loss_and_gradient_match_double_sums(
    shape: tuple[int, int, int, int], assert_loss_is
) -> None:
    arrays = draw(*shape)
    scale = spread(arrays[0], arrays[2])
    assert_loss_is(joint_mmd, lambda *a: reference(*a, scale=scale), *arrays)


def test_weights_apply_to_pairs(assert_loss_is) -> None:
    arrays, w = draw(4, 5, 3, 3), np.array([0.5, 1.5, 0.2, 1.8])
    scale = spread(arrays[0], arrays[2])
    assert_loss_is(
        lambda *a: joint_mmd(*a, torch.from_numpy(w)),
        lambda *a: reference(*a, scale=scale, w_s=w),
        *arrays,
    )


def test_joint_discrepancy_detects_what_marginals_hide() -> None:
    """Features and predictions have equal marginals but the opposite joint distribution."""
    rng = np.random.default_rng(0)
    kind = torch.arange(40) % 2
    f = 4.0 * kind[:, None] + torch.from_numpy(0.1 * rng.normal(size=(40, 2)))
    f_t = 4.0 * kind[:, None] + torch.from_numpy(0.1 * rng.normal(size=(40, 2)))
    p = torch.nn.functional.one_hot(kind, 2).double()
    assert abs(joint_mmd(f, p, f_t, p).item()) < 0.2
    assert joint_mmd(f, p, f_t, 1 - p).item() > 1.0


@pytest.mark.parametrize("num", [1, 3])
def test_identical_features_are_finite(num: int) -> None:
    f = torch.ones(num, 3, requires_grad=True)
    value = joint_mmd(f, torch.ones(num, 2) / 2, torch.ones(1, 3), torch.ones(1, 2) / 2)
    value.backward()
    assert torch.isfinite(value) and f.grad is not None and torch.isfinite(f.grad).all()


def test_method_adds_loss_and_moves_features_and_predictions(
    make_method, small, make_batch
) -> None:
    method, batch = make_method("jan", small, weight=3.0).eval(), make_batch()
    terms = method(batch)
    of_s, of_t = small(batch.source.inputs), small(batch.target.inputs)
    expected = joint_mmd(
        of_s.features, of_s.logits.softmax(1), of_t.features, of_t.logits.softmax(1)
    )
    torch.testing.assert_close(terms["joint_mmd"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 3 * expected)
    plain = make_method("jan", small, weight=0.0).eval()(batch)["loss"]
    weights = [small.project.weight, small.head.weight]
    found = torch.autograd.grad(terms["loss"] - plain, weights)
    wanted = torch.autograd.grad(3 * expected, weights)
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 1e-4
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_negative_weight_is_refused(make_method, small) -> None:
    with pytest.raises(ValueError, match=r"weight is -1; it must not be negative"):
        make_method("jan", small, weight=-1)
