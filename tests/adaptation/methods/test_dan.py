"""DAN (Long et al. 2015): maximum mean discrepancy with several Gaussian kernels."""

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.methods.dan import mmd, mmd_from_kernel


def spread(f_s: np.ndarray, f_t: np.ndarray) -> float:
    """Return the mean squared distance over all ordered pairs, including a sample with itself."""
    both = np.concatenate([f_s, f_t])
    return float(np.mean([np.sum((x - y) ** 2) for x in both for y in both]))


def reference(
    f_s: np.ndarray, f_t: np.ndarray, scale: float, w_s: np.ndarray | None = None
) -> float:
    """Compute the plain double sums with fixed bandwidths."""
    w_s = np.ones(len(f_s)) if w_s is None else w_s
    w_t = np.ones(len(f_t))

    def k(x: np.ndarray, y: np.ndarray) -> float:
        square = np.sum((x - y) ** 2)
        return sum(np.exp(-square / (2 * a * scale)) for a in (0.125, 0.25, 0.5, 1, 2))

    def within(f: np.ndarray, w: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(f)) for j in range(len(f)) if i != j]
        total = sum(w[i] * w[j] for i, j in pairs)
        return sum(w[i] * w[j] * k(f[i], f[j]) for i, j in pairs) / total if pairs else 0.0

    across = sum(w_s[i] * k(x, y) for i, x in enumerate(f_s) for y in f_t)
    return float(within(f_s, w_s) + within(f_t, w_t) - 2 * across / (w_s.sum() * len(f_t)))


def draw(*shape: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) + shift


@pytest.mark.parametrize(("num_s", "num_t", "d"), [(5, 5, 3), (4, 7, 1), (2, 3, 8), (1, 4, 3)])
def test_loss_and_gradient_match_double_sums(
    num_s: int, num_t: int, d: int, assert_loss_is
) -> None:
    f_s, f_t = draw(num_s, d), draw(num_t, d, seed=1, shift=0.5)
    scale = spread(f_s, f_t)
    assert_loss_is(mmd, lambda a, b: reference(a, b, scale), f_s, f_t)


def test_weights_apply_to_pairs(assert_loss_is) -> None:
    f_s, f_t = draw(5, 3), draw(4, 3, seed=1, shift=0.5)
    w, scale = np.array([0.2, 1.8, 1, 0.5, 1.5]), spread(f_s, f_t)
    assert_loss_is(
        lambda a, b: mmd(a, b, torch.from_numpy(w)),
        lambda a, b: reference(a, b, scale, w),
        f_s, f_t,
    )  # fmt: skip


def test_loss_matches_tllib_without_its_constant() -> None:
    """tllib's index matrix sums the same kernels, then adds the constant 2 / (B - 1)."""
    num, d = 6, 4
    f_s, f_t = draw(num, d), draw(num, d, seed=1, shift=1.0)
    both = np.concatenate([f_s, f_t])
    square = ((both[:, None] - both[None]) ** 2).sum(2)
    kernels = sum(np.exp(-square / (2 * 2.0**k * square.mean())) for k in range(-3, 2))
    index = np.full((2 * num, 2 * num), -1 / num**2)
    for part in (slice(0, num), slice(num, None)):
        index[part, part] = (1 - np.eye(num)) / (num * (num - 1))
    theirs = (kernels * index).sum() + 2 / (num - 1)
    found = mmd(torch.from_numpy(f_s), torch.from_numpy(f_t)).item()
    assert found == pytest.approx(theirs - 2 / (num - 1), rel=1e-9)


def test_unit_weights_change_nothing() -> None:
    f_s, f_t = torch.randn(5, 4), torch.randn(6, 4)
    assert torch.equal(mmd(f_s, f_t, torch.ones(5)), mmd(f_s, f_t))


def test_zero_weight_samples_are_ignored() -> None:
    k = torch.from_numpy(draw(8, 8))
    k = k + k.T
    rows = [0, 2, 5, 6, 7]
    w = torch.tensor([3.0, 0, 3, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(mmd_from_kernel(k, 5, w), mmd_from_kernel(k[rows][:, rows], 2))


def test_loss_is_zero_on_average_only_for_equal_distributions() -> None:
    def mean(shift: float) -> tuple[float, float]:
        found = [
            mmd(
                torch.from_numpy(draw(8, 3, seed=seed)),
                torch.from_numpy(draw(8, 3, seed=1000 + seed, shift=shift)),
            ).item()
            for seed in range(300)
        ]
        return float(np.mean(found)), float(np.std(found) / np.sqrt(300))

    same, error = mean(0.0)
    other, _ = mean(1.0)
    assert abs(same) < 4 * error
    assert other > 40 * error


def test_weights_undo_shift_of_proportions() -> None:
    """Two blobs, 3:1 in the source and 1:3 in the target: only the weighted distance vanishes."""
    plain, aware = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        kind_s, kind_t = rng.random(16) < 0.75, rng.random(16) < 0.25
        f_s = torch.from_numpy(4.0 * kind_s[:, None] + 0.1 * rng.normal(size=(16, 2)))
        f_t = torch.from_numpy(4.0 * kind_t[:, None] + 0.1 * rng.normal(size=(16, 2)))
        w = torch.from_numpy(np.where(kind_s, 1 / 3, 3.0))
        plain.append(mmd(f_s, f_t).item())
        aware.append(mmd(f_s, f_t, w).item())
    assert np.mean(plain) > 0.5
    assert abs(np.mean(aware)) < 0.2 * np.mean(plain)


def test_loss_is_invariant_to_scale_of_features() -> None:
    f_s, f_t = torch.from_numpy(draw(5, 3)), torch.from_numpy(draw(6, 3, seed=1))
    torch.testing.assert_close(mmd(1000 * f_s + 7, 1000 * f_t + 7), mmd(f_s, f_t))


@pytest.mark.parametrize("num", [1, 4])
def test_identical_features_are_finite(num: int) -> None:
    f = torch.ones(num, 3, requires_grad=True)
    value = mmd(f, torch.ones(num, 3))
    value.backward()
    assert torch.isfinite(value) and f.grad is not None and torch.isfinite(f.grad).all()


def test_distant_features_keep_precision_under_autocast() -> None:
    f_s, f_t = torch.from_numpy(draw(16, 8)) + 300, torch.from_numpy(draw(16, 8, seed=1)) + 300
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = mmd(f_s.float(), f_t.float())
    assert single.item() == pytest.approx(mmd(f_s, f_t).item(), abs=1e-4)


def test_method_adds_loss_and_moves_features(make_method, small, make_batch) -> None:
    method, batch = make_method("dan", small, weight=3.0).eval(), make_batch()
    batch.target.inputs.requires_grad_()
    terms = method(batch)
    expected = mmd(small(batch.source.inputs).features, small(batch.target.inputs).features)
    torch.testing.assert_close(terms["mmd"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 3 * expected)
    (found,) = torch.autograd.grad(terms["loss"], batch.target.inputs)
    (wanted,) = torch.autograd.grad(3 * expected, batch.target.inputs)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(found, wanted)


def test_negative_weight_is_refused(make_method, small) -> None:
    with pytest.raises(ValueError, match=r"weight is -1; it must not be negative"):
        make_method("dan", small, weight=-1)
