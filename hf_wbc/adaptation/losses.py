"""Loss terms and tensor operations that several methods share.

All functions work on plain tensors. B is the number of samples in a batch, d the width of the
features, C the number of classes, K the number of classes that at least one source contains, D the
number of source domains.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from hf_wbc.data.batch import Batch
from hf_wbc.models import Classifier, Output
from hf_wbc.taxonomy import NUM_CLASSES, relation

__all__ = [
    "MultilinearMap",
    "SupervisedLoss",
    "all_gather_batch",
    "domain_means",
    "entropy",
    "forward_together",
    "outer_product",
    "prior_divergence",
    "ramp_up",
    "random_outer_product",
    "reversal_strength",
    "reverse_gradient",
    "soft_labels",
    "target_views",
]


# Supervised loss


class SupervisedLoss(nn.Module):
    """Cross-entropy on source labels, adjusted for class priors and cell lineage.

    Logit adjustment (Menon et al. 2021, arXiv:2007.07314) adds `tau * log prior` of the
    sample's own domain to the logits during training, so that rare classes keep a wide margin. It
    assumes that samples are drawn at their natural frequency: use it with `--balance none`.

    Lineage uses the soft labels of Bertinetto et al. 2020 (arXiv:1912.09393): the label's
    mass is spread over the classes as `softmax(-distance / softness)`. The distance is 1 for one
    step of maturation, 2 for another class of the same lineage, and 3 for another lineage. Taking
    a band for a segmented neutrophil then costs less than mistaking it for a lymphocyte.

    Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, sec. 7) spreads a fraction of the mass
    evenly over the classes that the sources contain.

    Effective numbers (Cui et al. 2019, arXiv:1901.05555, eq. 8) weight a class of n images by
    `(1 - beta) / (1 - beta^n)`, scaled to a mean of 1 over the classes that the sources contain.

    Attributes:
        log_prior: Log class priors of each source domain (D, C), smoothed by one image.
        soft_labels: Target distribution of each class (C, C).
        class_weights: Weight of each class's samples (C,).
        present_classes: Ids of the classes that can be predicted: those of the sources, and of
            labeled target samples (K,).
    """

    log_prior: Tensor
    soft_labels: Tensor
    class_weights: Tensor
    present_classes: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        logit_adjustment: float = 0.0,
        lineage: float = 0.0,
        label_smoothing: float = 0.0,
        present: Tensor | None = None,
        effective_numbers: float = 0.0,
    ) -> None:
        """Prepare the loss for a set of source domains.

        Args:
            class_counts: Training images of each source domain and class (D, C).
            logit_adjustment: tau; 0 disables logit adjustment.
            lineage: Softness of the labels; 0 gives one-hot labels.
            label_smoothing: Fraction of the labels' mass that is spread evenly, in [0, 1).
            present: Classes that can be predicted (C,), bool; None takes those of the sources.
            effective_numbers: beta, in [0, 1); 0 weights no class.
        """
        super().__init__()
        counts = class_counts.double() + 1
        self.tau = logit_adjustment
        self.is_soft = bool(lineage or label_smoothing)
        self.is_weighted = bool(effective_numbers)
        weights = effective_number_weights(class_counts.sum(0), effective_numbers)
        self.register_buffer("class_weights", weights, persistent=False)
        log_prior = (counts / counts.sum(1, keepdim=True)).log().float()
        self.register_buffer("log_prior", log_prior, persistent=False)
        if present is None:
            present = class_counts.sum(0) > 0
        soft = soft_labels(present, lineage, label_smoothing)
        self.register_buffer("soft_labels", soft, persistent=False)
        self.register_buffer("present_classes", present.nonzero().squeeze(1), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, domains: Tensor | None) -> Tensor:
        """Return the loss of each sample (B,) in fp32.

        Args:
            logits: Class scores (B, C).
            labels: Class ids (B,).
            domains: Index of each sample's source domain (B,); None, for labeled target samples,
                leaves out the logit adjustment.
        """
        logits = logits.float()
        if self.tau and domains is not None:
            logits = logits + self.tau * self.log_prior[domains]
        target = self.soft_labels[labels] if self.is_soft else labels
        loss = nn.functional.cross_entropy(logits, target, reduction="none")
        return loss * self.class_weights[labels] if self.is_weighted else loss

    @property
    def num_present(self) -> int:
        """Number of classes that can be predicted, K."""
        return len(self.present_classes)

    def select_present(self, logits: Tensor) -> Tensor:
        """Return the logits (B, K) of the classes that can be predicted.

        The other classes are never predicted. They must not count in a loss that averages over
        classes or depends on their number.
        """
        return logits.index_select(1, self.present_classes)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """Return the weight of each class (C,) in float32 by effective numbers; see `SupervisedLoss`.

    Classes without images get 1, as do all classes if beta is 0.

    Args:
        counts: Images of each class (C,).
        beta: In [0, 1).
    """
    present = counts > 0
    weights = (1 - beta) / (1 - beta ** counts.double().clamp(min=1))
    return torch.where(present, weights / weights[present].mean(), 1.0).float()


def soft_labels(present: Tensor, softness: float, smoothing: float = 0.0) -> Tensor:
    """Return the target distribution of each class (C, C) in float32.

    Args:
        present: Whether at least one source contains the class (C,), bool. Absent classes, which
            are never predicted, get no mass.
        softness: Scale of the lineage distance; 0 gives one-hot rows.
        smoothing: Fraction of the mass that is spread evenly over the classes that are present.
    """
    labels = torch.eye(len(present)) if not softness else _lineage_labels(present, softness)
    even = present.float() / present.sum()
    return labels.lerp(even.expand_as(labels), smoothing) if smoothing else labels


def _lineage_labels(present: Tensor, softness: float) -> Tensor:
    assert len(present) == NUM_CLASSES
    ids = range(NUM_CLASSES)
    distance = torch.tensor([[float(relation(i, j)) for j in ids] for i in ids])
    return torch.softmax((-distance / softness).masked_fill(~present, -torch.inf), dim=1)


# Certainty and diversity of predictions


def entropy(logits: Tensor) -> Tensor:
    """Return the Shannon entropy (B,) in nats of the softmax of `logits` (B, C)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def prior_divergence(p: Tensor, prior: Tensor) -> Tensor:
    """Return KL(mean prediction || prior) - ln C, (); low values mean diverse predictions.

    For a uniform prior this is the negative entropy of the mean prediction, the diversity term of
    SHOT (Liang et al. 2020, arXiv:2002.08546).

    Args:
        p: Class probabilities (B, C).
        prior: Class proportions (C,).
    """
    mean = p.mean(0)
    log_mean = mean.clamp(min=1e-12).log()
    return (mean * (log_mean - prior.log())).sum() - math.log(len(prior))


# Source domains


def domain_means(values: Tensor, domains: Tensor, num_domains: int) -> tuple[Tensor, Tensor]:
    """Return the mean of `values` in each domain and the number of its samples, both (D,).

    A domain without samples in the batch has mean 0 and count 0; callers have to leave it out.

    Args:
        values: One value per sample (B,).
        domains: Domain index of each sample (B,).
        num_domains: D.
    """
    member = nn.functional.one_hot(domains, num_domains).to(values.dtype)
    counts = member.sum(0)
    return (values @ member) / counts.clamp(min=1), counts


def ramp_up(weight: float, anneal: float, progress: float) -> float:
    """Return a penalty's weight: at most 1 while `progress` < `anneal`, then `weight`."""
    return weight if progress >= anneal else min(1.0, weight)


# Features times predictions (CDAN)

LARGEST_PRODUCT = 4096
"""Maximum width, classes times features, of an exact product; wider ones are projected."""
RANDOM_WIDTH = 1024
"""Width of the random projection."""


def outer_product(f: Tensor, p: Tensor) -> Tensor:
    """Return features (B, d) times softmax (B, C) as (B, C * d), one block per class.

    This is the multilinear map of Long et al. 2018, arXiv:1705.10667.
    """
    return (p[:, :, None] * f[:, None, :]).flatten(1)


def random_outer_product(f: Tensor, p: Tensor, r_f: Tensor, r_p: Tensor) -> Tensor:
    """Return a random projection (B, k) of `outer_product` that keeps inner products on average.

    The randomized multilinear map of Long et al. 2018, arXiv:1705.10667.

    Args:
        f: Features (B, d).
        p: Softmax outputs (B, C).
        r_f: Fixed matrix of standard normal draws (d, k).
        r_p: Likewise (C, k).
    """
    return (f @ r_f) * (p @ r_p) / math.sqrt(r_f.shape[1])


class MultilinearMap(nn.Module):
    """Features (B, d) and softmax (B, C) to their outer product or, if too wide, a projection.

    Attributes:
        width: Width of the output.
        r_f: Random projection of the features (d, k), drawn once and saved.
        r_p: Random projection of the softmax outputs (C, k), likewise.
    """

    r_f: Tensor
    r_p: Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.random = num_features * num_classes > LARGEST_PRODUCT
        self.width = RANDOM_WIDTH if self.random else num_features * num_classes
        if self.random:
            self.register_buffer("r_f", torch.randn(num_features, RANDOM_WIDTH))
            self.register_buffer("r_p", torch.randn(num_classes, RANDOM_WIDTH))

    def forward(self, f: Tensor, p: Tensor) -> Tensor:
        """Return the map (B, width) of features `f` (B, d) and softmax outputs `p` (B, C)."""
        return (
            random_outer_product(f, p, self.r_f, self.r_p) if self.random else outer_product(f, p)
        )


# Gradient reversal


class _Reversal(torch.autograd.Function):
    """Identity in the forward pass; multiplies the gradient by -strength in the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """Return `values` unchanged, but multiply their gradient by -`strength`.

    With gradient reversal (Ganin et al. 2016, arXiv:1505.07818) a single optimizer trains two
    opponents: the layers after it learn to tell the domains apart, the layers before it to confuse
    them.
    """
    reversed_: Tensor = _Reversal.apply(values, strength)
    return reversed_


def reversal_strength(progress: float, gamma: float) -> float:
    """Return 2 / (1 + exp(-gamma * progress)) - 1, which grows from 0 towards 1 with progress."""
    return math.tanh(gamma * progress / 2)


# Batches: several processes, several views


def all_gather_batch(values: Tensor) -> Tensor:
    """Return the samples of all processes (world * B, ...) in order of rank.

    A covariance, a kernel mean or a class marginal of half a batch is not half of that of the
    whole batch. With this function every process computes the same loss as one process with the
    whole batch would, in value and in gradient. Gradients reach this process's own samples,
    multiplied by the number of processes: the mean that DistributedDataParallel takes over
    processes is then the gradient of the loss.

    Args:
        values: This process's samples (B, ...); B must be the same in every process.
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
    """Return the weakly and the strongly augmented target inputs, both (B, ...)."""
    assert batch.target is not None and batch.target.strong is not None
    return batch.target.inputs, batch.target.strong


def forward_together(classifier: Classifier, *inputs: Tensor) -> list[Output]:
    """Return the classifier's output for each of the inputs (B_i, ...), from a single pass.

    BatchNorm therefore uses the statistics of all inputs together.
    """
    output = classifier(torch.cat(inputs))
    sizes = [len(each) for each in inputs]
    parts = zip(output.features.split(sizes), output.logits.split(sizes), strict=True)
    return [Output(features, logits) for features, logits in parts]
