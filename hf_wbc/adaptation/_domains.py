"""Risks of the source domains in a batch, for methods that compare them.

A domain that a batch lacks has a mean of 0 and a count of 0; whoever compares leaves it out.
"""

from torch import Tensor, nn


def domain_means(values: Tensor, domains: Tensor, num_domains: int) -> tuple[Tensor, Tensor]:
    """Mean of values (B,) in each domain, and the number of samples in each, both (D,)."""
    member = nn.functional.one_hot(domains, num_domains).to(values.dtype)
    counts = member.sum(0)
    return (values @ member) / counts.clamp(min=1), counts


def annealed(weight: float, anneal: float, progress: float) -> float:
    """A penalty's weight: at most 1 in the first fraction `anneal` of training, then `weight`."""
    return weight if progress >= anneal else min(1.0, weight)
