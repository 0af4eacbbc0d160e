"""The loss on labels that every method shares: cross-entropy, adjusted for priors and lineage.

Logit adjustment (Menon et al. 2021, arXiv:2007.07314, eq. 10): while training, tau log prior of the
sample's own domain is added to the logits, so that rare classes keep a wide margin. It assumes that
samples are drawn as they come: use it with --balance none.

Lineage (soft labels of Bertinetto et al. 2020, arXiv:1912.09393, eq. 5): the label's mass is spread
over the classes as softmax(-distance / softness), where one step of maturation is a distance of 1,
another class of the lineage 2, another lineage 3. To take a band for a segmented neutrophil then
costs less than to take it for a lymphocyte.

How sure predictions on the target are, and how diverse, for second phases.

Risks of the source domains in a batch, for methods that compare them.

A domain that a batch lacks has a mean of 0 and a count of 0; whoever compares leaves it out.

Features times predictions, which CDAN's discriminator sees (Long et al. 2018, arXiv:1705.10667).

Where the product would be too wide, a random map of it keeps inner products on average.

Gradient reversal (Ganin et al. 2016, arXiv:1505.07818): one optimizer for two opponents.

What follows the reversal learns to tell the domains apart, what precedes it to confuse them.

Statistics of the whole batch, whatever the number of processes that share it.

A covariance, a kernel mean or a class marginal of half a batch is not half of that of the whole.
`whole` gives every process all samples, so that each computes the same loss as one process with
the doubled batch would, value and gradient.

Several views of a batch in one pass through the classifier, for methods with a strong view."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from hf_wbc.data.batch import Batch
from hf_wbc.models import Classifier, Output
from hf_wbc.taxonomy import NUM_CLASSES, relation


class SupervisedLoss(nn.Module):
    """Cross-entropy of each sample; see above."""

    log_prior: Tensor
    """Of each source domain and class (domains, C), smoothed by one image."""
    soft_labels: Tensor
    """Target distribution of each class (C, C)."""
    present_classes: Tensor
    """Ids of the classes that any source has (K,)."""

    def __init__(
        self, class_counts: Tensor, logit_adjustment: float = 0.0, lineage: float = 0.0
    ) -> None:
        """`class_counts` (domains, C); `logit_adjustment` is tau, `lineage` the softness."""
        super().__init__()
        counts = class_counts.double() + 1
        self.tau = logit_adjustment
        self.lineage = lineage
        log_prior = (counts / counts.sum(1, keepdim=True)).log().float()
        self.register_buffer("log_prior", log_prior, persistent=False)
        present = class_counts.sum(0) > 0
        self.register_buffer("soft_labels", soft_labels(present, lineage), persistent=False)
        self.register_buffer("present_classes", present.nonzero().squeeze(1), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, domains: Tensor) -> Tensor:
        """Logits (B, C), labels and domains (B,) to losses (B,), in fp32."""
        logits = logits.float()
        if self.tau:
            logits = logits + self.tau * self.log_prior[domains]
        if not self.lineage:
            return nn.functional.cross_entropy(logits, labels, reduction="none")
        return nn.functional.cross_entropy(logits, self.soft_labels[labels], reduction="none")

    @property
    def num_present(self) -> int:
        """Of the classes that any source has, K."""
        return len(self.present_classes)

    def select_present(self, logits: Tensor) -> Tensor:
        """Logits (B, C) of the classes that any source has (B, K).

        The others are never predicted, and must not count where a loss is a mean over the classes,
        or knows how many there are.
        """
        return logits.index_select(1, self.present_classes)


def soft_labels(present: Tensor, softness: float) -> Tensor:
    """Rows of target distributions (C, C), float32; a softness of 0 is one-hot.

    No mass is on a class that is not `present` (C,) bool: it can never be predicted.
    """
    if not softness:
        return torch.eye(len(present))
    assert len(present) == NUM_CLASSES
    ids = range(NUM_CLASSES)
    distance = torch.tensor([[float(relation(i, j)) for j in ids] for i in ids])
    return torch.softmax((-distance / softness).masked_fill(~present, -torch.inf), dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of the softmax of logits (B, C), (B,)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def prior_divergence(p: Tensor, prior: Tensor) -> Tensor:
    """KL divergence of mean predictions (B, C) from a prior (C,), minus ln C; low is diverse.

    With a uniform prior, the negative entropy of the mean.
    """
    mean = p.mean(0)
    log_mean = mean.clamp(min=1e-12).log()
    return (mean * (log_mean - prior.log())).sum() - math.log(len(prior))


def domain_means(values: Tensor, domains: Tensor, num_domains: int) -> tuple[Tensor, Tensor]:
    """Mean of values (B,) in each domain, and the number of samples in each, both (D,)."""
    member = nn.functional.one_hot(domains, num_domains).to(values.dtype)
    counts = member.sum(0)
    return (values @ member) / counts.clamp(min=1), counts


def ramp_up(weight: float, anneal: float, progress: float) -> float:
    """A penalty's weight: at most 1 in the first fraction `anneal` of training, then `weight`."""
    return weight if progress >= anneal else min(1.0, weight)


LARGEST_PRODUCT = 4096
"""Of classes times features; above it the product is projected at random."""
RANDOM_WIDTH = 1024


def outer_product(f: Tensor, p: Tensor) -> Tensor:
    """Features (B, d) times softmax (B, C), as (B, C * d): a block of features for each class."""
    return (p[:, :, None] * f[:, None, :]).flatten(1)


def random_outer_product(f: Tensor, p: Tensor, r_f: Tensor, r_p: Tensor) -> Tensor:
    """(B, d) and (B, C) to (B, k), by fixed normal matrices (d, k) and (C, k).

    Inner products are in expectation those of `product`.
    """
    return (f @ r_f) * (p @ r_p) / math.sqrt(r_f.shape[1])


class MultilinearMap(nn.Module):
    """Features (B, d) and softmax (B, C) to their product, or to a random map of it."""

    r_f: Tensor
    """Of a random map (d, k); drawn once, and saved."""
    r_p: Tensor
    """Likewise (C, k)."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.random = num_features * num_classes > LARGEST_PRODUCT
        self.width = RANDOM_WIDTH if self.random else num_features * num_classes
        if self.random:
            self.register_buffer("r_f", torch.randn(num_features, RANDOM_WIDTH))
            self.register_buffer("r_p", torch.randn(num_classes, RANDOM_WIDTH))

    def forward(self, f: Tensor, p: Tensor) -> Tensor:
        return (
            random_outer_product(f, p, self.r_f, self.r_p) if self.random else outer_product(f, p)
        )


class _Reversal(torch.autograd.Function):
    """Identity forward, gradient times -strength backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """The values themselves; their gradient is that of what follows, times -strength."""
    reversed_: Tensor = _Reversal.apply(values, strength)
    return reversed_


def reversal_strength(progress: float, gamma: float) -> float:
    """From 0 at progress 0 towards 1, the faster the larger gamma: 2 / (1 + exp(-gamma p)) - 1."""
    return math.tanh(gamma * progress / 2)


def all_gather_batch(values: Tensor) -> Tensor:
    """Samples (B, ...) of this process to those of all (world * B, ...), in order of rank.

    Gradients reach this process's own samples, times the number of processes: the mean over
    processes that DistributedDataParallel takes of them is then the gradient of the loss.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    world, rank = dist.get_world_size(), dist.get_rank()
    fixed = values.detach().contiguous()
    parts = [torch.empty_like(fixed) for _ in range(world)]
    dist.all_gather(parts, fixed)
    if values.requires_grad:
        parts[rank] = fixed + world * (values - fixed)
    return torch.cat(parts)


def target_views(batch: Batch) -> tuple[Tensor, Tensor]:
    """The target's weak and strong view (B, ...)."""
    assert batch.target is not None and batch.target.strong is not None
    return batch.target.inputs, batch.target.strong


def forward_together(classifier: Classifier, *inputs: Tensor) -> list[Output]:
    """The classifier's output for each of the inputs (B_i, ...), which share BatchNorm's batch."""
    output = classifier(torch.cat(inputs))
    sizes = [len(each) for each in inputs]
    parts = zip(output.features.split(sizes), output.logits.split(sizes), strict=True)
    return [Output(features, logits) for features, logits in parts]
