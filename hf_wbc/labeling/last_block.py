"""LP-FT of the last block: first a linear probe, then the last block and the head together.

Fine-tuning from a new head distorts features, which costs accuracy on images unlike the labeled
ones; from a linear probe it does not (Kumar et al. 2022, arXiv:2202.10054). The probe is the
`logistic` head. A few steps of AdamW follow, in which every weight is pulled back to its start
(L2-SP; Li et al. 2018, arXiv:1802.01483). Normalization layers keep their statistics, and there is
no dropout, so the seed of the batches and folds decides everything.

Cross-validation (one division into five folds) chooses the number of steps. The tuned block stays
only if held-out cells clearly gain over the probe, or over the source head where the probe does not
stay; see `hf_wbc.labeling.adapt`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from hf_wbc.data.image_blocks import BLOCK
from hf_wbc.labeling.adapt import (
    FOLDS,
    QUICK,
    Adaptation,
    adapt,
    best_of,
    folds_of,
    gain_over,
    problem_of,
    too_few,
)
from hf_wbc.labeling.cut_network import CutNetwork
from hf_wbc.labeling.few_shot import (
    FAMILIES,
    FewShotProblem,
    LinearFewShotHead,
    class_weights,
    logistic,
)
from hf_wbc.labeling.pool import Floats, Ids, Pool
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = ["HEADS", "LAST_BLOCK", "TunedNetwork", "adapt_last_block", "cut_for_pool", "tune"]

LAST_BLOCK = "last_block"
HEADS = (*FAMILIES, LAST_BLOCK)
"""Names of all heads that labels can fit."""
STEPS = (10, 20, 40)
"""Numbers of AdamW steps, from the most to the least cautious."""
LEARNING_RATE = 3e-4
PULL = 1.0
"""Strength of the pull to the start: each step multiplies the change by 1 - LEARNING_RATE PULL."""
BATCH = 16
CELLS_AT_ONCE = 64
"""Cells whose logits are computed at once."""


@dataclass(frozen=True, eq=False)
class TunedNetwork:
    """A network with another last block and head."""

    network: CutNetwork
    weights: Mapping[str, Tensor]
    """Weights in place of the network's `start`."""
    head: LinearFewShotHead
    _known: dict[str, Floats] = field(default_factory=dict)
    """Logits (11,) of cells, by name."""

    def logits(self, features: Floats) -> Floats:
        """Raise ValueError, as features of the old block say nothing about the new one."""
        raise ValueError(
            "the last block was tuned, so features of the model as it was do not fit; leave them "
            "out to predict the cells of the pool, or save the model and predict images with it"
        )

    def pool_logits(self, pool: Pool) -> Floats:
        """Return logits (N, 11) of the cells of a pool, whose images are read again."""
        for start in range(0, len(pool), BLOCK):  # datasets are read in blocks of this size
            some = pool.image_ids[start : start + BLOCK]
            if names := [each for each in some if each not in self._known]:
                found = self.logits_of(self.network.inputs(names))
                self._known.update(zip(names, found, strict=True))
        return np.stack([self._known[each] for each in pool.image_ids])

    @torch.no_grad()
    def logits_of(self, inputs: Tensor) -> Floats:
        """Return logits (n, 11) of what the last block receives (n, V, ...)."""
        parts = torch.split(inputs, CELLS_AT_ONCE)
        features = torch.cat([self.network.features(self.weights, part) for part in parts])
        return self.head.logits(features.cpu().numpy().astype(np.float64))

    @torch.no_grad()
    def load_block(self, classifier: Classifier) -> None:
        """Copy the tuned weights, without those of the head, into a classifier."""
        parameters = dict(classifier.named_parameters())
        for name, value in self.weights.items():
            parameters[name].copy_(value)


def cut_for_pool(pretrained: PretrainedModel | None, pool: Pool) -> CutNetwork:
    """Cut a model for the cells of a pool.

    Raises:
        ValueError: If the pool has features only, or the model cannot be cut.
    """
    if pretrained is None or pool.images is None:
        raise ValueError(
            f"{pool.name} has features only, and the head {LAST_BLOCK} is trained on images; open "
            f"a folder or dataset with hf_wbc.label(model, images, head={LAST_BLOCK!r}), or take "
            "the head logistic"
        )
    return CutNetwork(pretrained, pool.images)


def adapt_last_block(
    network: CutNetwork,
    pool: Pool,
    rows: Ids,
    labels: Ids,
    source: LinearFewShotHead,
    *,
    guard: float | None = None,
    seed: int = 0,
) -> Adaptation:
    """Tune the last block and the head on labeled cells of a pool.

    Args:
        network: The network, cut before its last block.
        pool: All cells of the laboratory.
        rows: Rows of the labeled cells (n,).
        labels: Their class ids (n,).
        source: The model's own head.
        guard: Standard errors by which held-out cells must improve; None is 1 + 10 / n.
        seed: Seed of folds and batches.

    Returns:
        The tuned network; the linear probe or the source head where no gain can be shown.
    """
    probe = adapt(pool, rows, labels, source, guard=guard, seed=seed)
    rows, labels = probe.rows, probe.labels
    if too_few(labels):
        return probe
    problem = problem_of(pool, rows, labels, source)
    inputs = network.inputs([pool.image_ids[row] for row in rows])
    start, held_out = _cross_validated(network, inputs, problem, probe.settings or QUICK, seed)
    place = best_of(held_out, labels)
    before = start if probe.is_adapted else source.logits(problem.features)
    gain, error, is_shown = gain_over(held_out[place], before, labels, guard)
    if not is_shown:
        stays = "linear probe" if probe.is_adapted else "source head"
        why = (
            f"The last block stays as it is, with the {stays}: on held-out labels the tuned one is "
            f"better by {gain:+.3f} with a standard error of {error:.3f}, which is no proof of a "
            "gain."
        )
        return replace(probe, sentences=(*probe.sentences, why))
    head = logistic(problem, np.arange(len(rows)), probe.settings or QUICK)
    *_, tuned = tune(network, inputs, labels, head, STEPS[: place + 1], seed)
    why = (
        f"{len(rows)} labels tuned the last block in {STEPS[place]} steps: held-out labels are "
        f"right more often by {gain:.3f} (standard error {error:.3f}) than before. Features are "
        f"others now, so the images of all {len(pool)} cells are read again."
    )
    settings = (float(STEPS[place]), LEARNING_RATE)
    return Adaptation(
        tuned, LAST_BLOCK, settings, rows, labels, held_out[place][0], gain, error,
        (*probe.sentences, why),
    )  # fmt: skip


def tune(
    network: CutNetwork,
    inputs: Tensor,
    labels: Ids,
    head: LinearFewShotHead,
    steps: Sequence[int],
    seed: int = 0,
) -> Iterator[TunedNetwork]:
    """Train the last block and a head together, and yield them after numbers of steps.

    A class counts as the square root of its number of labels, as in the probe.

    Args:
        network: The network, cut before its last block.
        inputs: What the last block receives for the labeled cells (n, V, ...).
        labels: Class ids (n,).
        head: The head to start from; absent classes stay absent.
        steps: Increasing numbers of steps.
        seed: Seed of the batches.
    """
    start = {**network.start, **_head_tensors(head, network)}
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    block = {name: weights[name] for name in network.start}
    optimizer = torch.optim.AdamW(weights.values(), LEARNING_RATE, weight_decay=0.0)
    true = torch.from_numpy(labels).to(weights[_WEIGHT].device)
    importance = torch.from_numpy(class_weights(labels) * len(labels)).to(weights[_WEIGHT])
    generator = np.random.default_rng((seed, 11))
    order = np.empty(0, np.int64)
    for step in range(1, max(steps) + 1):
        if len(order) < min(BATCH, len(labels)):
            order = np.concatenate([order, generator.permutation(len(labels))])
        batch, order = order[:BATCH], order[BATCH:]
        features = network.features(block, inputs[batch])
        logits = nn.functional.linear(features, weights[_WEIGHT], weights[_BIAS])
        losses = nn.functional.cross_entropy(logits, true[batch], reduction="none")
        optimizer.zero_grad()
        torch.autograd.backward((losses * importance[batch]).mean())
        optimizer.step()
        with torch.no_grad():
            for name, value in weights.items():
                value.lerp_(start[name], LEARNING_RATE * PULL)
        if step in steps:
            yield _snapshot(network, weights)


_WEIGHT, _BIAS = "head.weight", "head.bias"


def _head_tensors(head: LinearFewShotHead, network: CutNetwork) -> dict[str, Tensor]:
    like = next(iter(network.start.values()))
    return {
        _WEIGHT: torch.from_numpy(head.weight).to(like),
        _BIAS: torch.from_numpy(head.bias).to(like),
    }


def _snapshot(network: CutNetwork, weights: Mapping[str, Tensor]) -> TunedNetwork:
    kept = {name: value.detach().clone() for name, value in weights.items()}
    weight, bias = (kept.pop(name).cpu().numpy().astype(np.float64) for name in (_WEIGHT, _BIAS))
    return TunedNetwork(network, kept, LinearFewShotHead(weight, bias))


def _cross_validated(
    network: CutNetwork,
    inputs: Tensor,
    problem: FewShotProblem,
    settings: tuple[float, float],
    seed: int,
) -> tuple[Floats, list[Floats]]:
    """Return held-out logits (n, 11) of the probe, and (1, n, 11) after each number of steps."""
    fold = folds_of(problem.labels, seed)[0]
    before = np.empty((len(fold), NUM_CLASSES))
    found = [np.empty((1, *before.shape)) for _ in STEPS]
    for number in range(FOLDS):
        rows, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(held_out):
            continue
        head = logistic(problem, rows, settings)
        before[held_out] = head.logits(problem.features[held_out])
        tuned = tune(network, inputs[rows], problem.labels[rows], head, STEPS, seed)
        for after, each in zip(found, tuned, strict=True):
            after[0, held_out] = each.logits_of(inputs[held_out])
    return before, found
