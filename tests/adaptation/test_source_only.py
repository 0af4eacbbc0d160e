"""source_only is cross-entropy, and with tau the logit adjustment of Menon et al. 2021."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import nn

from hf_wbc.adaptation import Setting, load_method
from hf_wbc.data.batch import Batch, SourceView
from hf_wbc.models import Output

SourceOnly = load_method("source_only")


class Passing(nn.Module):
    """A classifier whose logits are its inputs."""

    def forward(self, inputs: torch.Tensor) -> Output:
        return Output(inputs, inputs)


def loss(
    logits: torch.Tensor, labels: list[int], domains: list[int], counts: list[list[int]], tau: float
) -> torch.Tensor:
    method = SourceOnly(Passing(), SourceOnly.parse({"tau": tau}))
    names = tuple(f"domain_{index}" for index in range(len(counts)))
    method.setup(Setting(10, names, torch.tensor(counts), 0))
    view = SourceView(
        inputs=logits,
        labels=torch.tensor(labels),
        domains=torch.tensor(domains),
        index=torch.arange(len(labels)),
    )
    return method(Batch(source=view))["loss"]


def reference(
    logits: np.ndarray, labels: list[int], domains: list[int], counts: list[list[int]], tau: float
) -> float:
    smoothed = np.array(counts) + 1
    priors = smoothed / smoothed.sum(1, keepdims=True)
    adjusted = logits + tau * np.log(priors[domains])
    rows = np.arange(len(labels))
    return float((logsumexp(adjusted, axis=1) - adjusted[rows, labels]).mean())


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_the_loss_and_its_gradient_are_the_papers(tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float32, requires_grad=True)
    labels, domains, counts = [0, 1, 2, 2, 0], [0, 1, 1, 0, 0], [[9, 1, 0], [2, 2, 50]]
    value = loss(logits, labels, domains, counts, tau)
    value.backward()
    numbers = logits.detach().numpy().astype(np.float64)
    assert value.item() == pytest.approx(reference(numbers, labels, domains, counts, tau), rel=1e-5)
    assert logits.grad is not None
    for i, j in ((0, 0), (2, 1), (3, 2)):
        moved = [numbers.copy(), numbers.copy()]
        moved[0][i, j] += 1e-4
        moved[1][i, j] -= 1e-4
        up, down = (reference(x, labels, domains, counts, tau) for x in moved)
        assert logits.grad[i, j].item() == pytest.approx((up - down) / 2e-4, abs=1e-5)


def test_equal_priors_change_nothing() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    same = [[7, 7, 7]]
    plain = loss(logits, [0, 1, 2, 0], [0] * 4, same, 0.0)
    adjusted = loss(logits, [0, 1, 2, 0], [0] * 4, same, 1.0)
    assert adjusted.item() == pytest.approx(plain.item(), rel=1e-6)


def test_a_class_that_a_source_lacks_keeps_the_loss_finite() -> None:
    assert torch.isfinite(loss(torch.zeros(1, 3), [1], [0], [[100_000, 0, 0]], 1.0))
