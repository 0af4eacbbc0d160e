"""How sure predictions on the target are, and how diverse, for second phases."""

import math

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of the softmax of logits (B, C), (B,)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def concentration(p: Tensor, prior: Tensor) -> Tensor:
    """KL divergence of mean predictions (B, C) from a prior (C,), minus ln C; low is diverse.

    With a uniform prior, the negative entropy of the mean.
    """
    mean = p.mean(0)
    log_mean = mean.clamp(min=1e-12).log()
    return (mean * (log_mean - prior.log())).sum() - math.log(len(prior))
