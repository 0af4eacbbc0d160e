"""Benchmark strategies and heads in a laboratory whose labels are known.

Each repetition divides the cells at random into a pool, whose labels can be asked for, and test
cells, which are never offered. Where patients or slides are known, no group is on both sides.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hf_wbc.escape import text_read_back
from hf_wbc.evaluation.metrics import score
from hf_wbc.labeling.few_shot import LinearFewShotHead
from hf_wbc.labeling.last_block import LAST_BLOCK, cut_for_pool
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Floats, Ids, Pool, answers_of
from hf_wbc.models import PretrainedModel
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED

__all__ = [
    "Draw",
    "advantages",
    "curve",
    "divide",
    "identity",
    "interval_of_mean",
    "paired_gaps",
    "scorable",
    "simulate",
]

POOL_SHARE = 0.55
FEWEST_CELLS = 4
"""Cells of a class below which a laboratory is not scored on it."""
BATCH = 10


@dataclass(frozen=True)
class Draw:
    """One repetition at one budget."""

    model: str
    """First digits of the model's revision."""
    laboratory: str
    """Name of the laboratory, or of what it is averaged into."""
    cells: str
    """Name of the laboratory whose cells were drawn."""
    num_cells: int
    """Cells of the laboratory, pool and test cells together."""
    seed: int
    strategy: str
    head: str
    budget: int
    macro_f1: float
    """Macro-F1 of the adapted head on the test cells."""
    zero_shot: float
    """Macro-F1 of the source head on the same cells."""
    laboratory_f1: float
    """Macro-F1 of the adapted head on all cells, the labeled ones by heads that did not see them;
    what the estimate is about."""
    is_adapted: bool
    """Whether the guard kept what the labels fitted; for `last_block`, the tuned block."""
    estimate: float | None = None
    """Macro-F1 of the adapted head as the labels alone say; None with too few random cells."""
    low: float | None = None
    """Lower end of the estimate's 95 % interval."""
    high: float | None = None

    @property
    def key(self) -> tuple[str, str, int, int, str, str, int]:
        """What decides the draw: its cells (see `identity`), seed, strategy, head and budget."""
        cells = self.model, self.cells, self.num_cells
        return *cells, self.seed, self.strategy, self.head, self.budget

    def holds(self, score: float) -> bool | None:
        """Return whether the estimate's interval holds a score; None without an estimate."""
        if self.low is None or self.high is None:
            return None
        return self.low <= score <= self.high


def scorable(pool: Pool) -> tuple[Pool, str]:
    """Return the labeled cells of classes with enough cells, and a sentence about the others."""
    counts = np.bincount(pool.labels[pool.labels != UNLABELED], minlength=NUM_CLASSES)
    if not counts.any():
        raise ValueError(f"{pool.name} has no labels to simulate a reader with")
    enough = counts >= FEWEST_CELLS
    rare = [f"{NAMES[c]} ({counts[c]})" for c in np.flatnonzero(~enough & (counts > 0))]
    note = f"left out, fewer than {FEWEST_CELLS} cells: {', '.join(rare)}" if rare else ""
    if not enough.any():
        raise ValueError(
            f"{pool.name} has too few cells to simulate a reader with; {note}; label more of them"
        )
    known = pool.labels != UNLABELED
    return pool.take(np.flatnonzero(known & enough[pool.labels])), note


def identity(pool: Pool) -> tuple[str, str, int]:
    """Return the first digits of the model's revision, the laboratory and its number of cells."""
    revision = str((pool.facts or {}).get("model", "")).removeprefix("sha256:")
    return revision[:12], text_read_back(pool.name), len(pool)


def divide(pool: Pool, seed: int) -> tuple[Ids, Ids]:
    """Return the rows of the pool and of the test cells of one repetition."""
    rng = np.random.default_rng((seed, 7))
    if pool.groups is None:
        order = rng.permutation(len(pool))
        cut = round(POOL_SHARE * len(pool))
        return order[:cut], order[cut:]
    names, of, sizes = np.unique(pool.groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    is_pool = np.zeros(len(names), bool)
    is_pool[order] = np.cumsum(sizes[order]) <= POOL_SHARE * len(pool)
    return np.flatnonzero(is_pool[of]), np.flatnonzero(~is_pool[of])


def simulate(
    pool: Pool,
    source: LinearFewShotHead,
    *,
    strategies: Sequence[str],
    budgets: Sequence[int],
    seeds: int,
    first_seed: int = 0,
    heads: Sequence[str] = ("logistic",),
    merge: Sequence[str] = (),
    prototypes: Floats | None = None,
    pretrained: PretrainedModel | None = None,
    known: Collection[tuple[Any, ...]] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Draw]:
    """Label with the known labels, and score on test cells.

    Args:
        pool: All labeled cells of a laboratory.
        source: The model's own head.
        strategies: Names of strategies.
        budgets: Numbers of labels; those beyond the pool are left out.
        seeds: Number of repetitions.
        first_seed: Seed of the first one; the others follow.
        heads: Families of heads.
        merge: Classes to score as one, as FROM=INTO.
        prototypes: Source prototypes (11, d).
        pretrained: The model, which the head `last_block` needs.
        known: Keys of draws that exist and are not computed again.
        on_progress: Called with the number of labelings done and the total.

    Yields:
        A draw for each repetition, strategy, budget and head.

    Raises:
        ValueError: If a budget is negative, or none fits the pool of any repetition.
    """
    model, name, num_cells = identity(pool)
    repetitions = _repetitions(pool, budgets, range(first_seed, first_seed + seeds))
    network = cut_for_pool(pretrained, pool) if LAST_BLOCK in heads else None
    labelings = list(product(repetitions, strategies))
    for done, ((seed, rows, test, fitting), strategy) in enumerate(labelings, start=1):
        mine, others = pool.take(rows), pool.take(test)
        zero = _score(others.labels, source.pool_logits(others), merge)
        learner = Learner(
            mine, source, prototypes=prototypes, network=network, strategy=strategy, merge=merge,
            seed=seed,
        )  # fmt: skip
        key = (model, name, num_cells, seed, strategy)
        todo = {pair for pair in product(fitting, heads) if (*key, *reversed(pair)) not in known}
        for budget in fitting if todo else ():
            while num := min(BATCH, budget - len(learner.answered)):
                learner.tell_answers(answers_of(mine, learner.next(num)))
            for head in (each for each in heads if (budget, each) in todo):
                macro_f1, laboratory_f1, estimate = _judge(learner, head, others)
                yield Draw(
                    model, name, name, num_cells, seed, strategy, head, budget, macro_f1, zero,
                    laboratory_f1, learner.adaptation.family == head, *estimate,
                )  # fmt: skip
        on_progress(done, len(labelings))


def _repetitions(
    pool: Pool, budgets: Sequence[int], seeds: range
) -> list[tuple[int, Ids, Ids, list[int]]]:
    """Return seed, rows of the pool, test rows and possible budgets of each repetition."""
    named = " ".join(map(str, budgets))
    if not budgets or min(budgets) < 0:
        raise ValueError(f"--budgets are {named or 'none'}; name numbers of labels, such as 10 25")
    parts = ((seed, *divide(pool, seed)) for seed in seeds)
    found = [
        (seed, rows, test, sorted({each for each in budgets if each <= len(rows)}))
        for seed, rows, test in parts
        if len(rows) and len(test)
    ]
    if not any(fitting for *_, fitting in found):
        raise ValueError(
            f"{pool.name} has {len(pool)} cells to label and to score, too few for --budgets "
            f"{named} and --seeds {len(seeds)}; name smaller budgets, or another dataset"
        )
    return [each for each in found if each[3]]


def _judge(
    learner: Learner, head: str, test: Pool
) -> tuple[float, float, tuple[float | None, float | None, float | None]]:
    """Return macro-F1 on test cells and on all cells, and what the labels estimate of the latter.

    Args:
        learner: A learner with new labels or another head before.
        head: The head to fit.
        test: The test cells.
    """
    learner.head = head
    pair, logits = learner.fit().estimate(), learner.adaptation.head.pool_logits(test)
    everywhere = np.concatenate([logits, learner.held_out_logits()])
    labels = np.concatenate([test.labels, learner.pool.labels])
    ends = (pair[0].macro_f1, *pair[0].interval) if pair else (None, None, None)
    scores = (_score(test.labels, logits, learner.merge), _score(labels, everywhere, learner.merge))
    return *scores, ends


def _score(true: Ids, logits: Floats, merge: Sequence[str]) -> float:
    return float(score(true, logits.argmax(1), merge=merge)["macro_f1"])


def curve(draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """Summarize draws by laboratory, strategy, head and budget.

    Returns:
        Rows with the mean macro-F1, the interval that holds 95 % of bootstrap means over the
        repetitions, the gain over the source head, the share of draws below it, and how often the
        95 % interval of the estimate held the score of the laboratory.
    """
    keys = dict.fromkeys((d.laboratory, d.strategy, d.head, d.budget) for d in draws)
    rows = []
    for key in keys:
        mine = [d for d in draws if (d.laboratory, d.strategy, d.head, d.budget) == key]
        scores = np.array([d.macro_f1 for d in mine])
        zeros = np.array([d.zero_shot for d in mine])
        held = [held for d in mine if (held := d.holds(d.laboratory_f1)) is not None]
        rows.append({
            **dict(zip(("laboratory", "strategy", "head", "budget"), key, strict=True)),
            "macro_f1": float(scores.mean()),
            "interval": interval_of_mean(scores),
            "zero_shot": float(zeros.mean()),
            "gain": float((scores - zeros).mean()),
            "below_zero_shot": float((scores < zeros - 1e-9).mean()),
            "adapted": float(np.mean([d.is_adapted for d in mine])),
            "covered": float(np.mean(held)) if held else None,
            "num_draws": len(mine),
            "num_cells": sum({d.cells: d.num_cells for d in mine}.values()),
        })  # fmt: skip
    return rows


def advantages(draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """Compare the first strategy with the others on the same repetitions.

    Returns:
        Rows with the mean difference of macro-F1 in each laboratory at each budget, and the
        interval that holds 95 % of its bootstrap means.
    """
    first, *others = dict.fromkeys(draw.strategy for draw in draws)
    groups: dict[tuple[str, int, str], list[Draw]] = {}
    for draw in draws:
        if draw.head == draws[0].head:
            key = (draw.laboratory, draw.budget, draw.strategy)
            groups.setdefault(key, []).append(draw)
    rows = []
    for laboratory, budget, strategy in groups:
        for other in others if strategy == first else ():
            gaps = paired_gaps(groups[laboratory, budget, first], groups[laboratory, budget, other])
            rows.append({
                "laboratory": laboratory,
                "budget": budget,
                "against": other,
                "difference": float(gaps.mean()),
                "interval": interval_of_mean(gaps),
            })  # fmt: skip
    return rows


def paired_gaps(first: Sequence[Draw], second: Sequence[Draw]) -> Floats:
    """Return how much better the first draws are (n,), on n repetitions that both have."""
    scores = {(draw.cells, draw.seed): draw.macro_f1 for draw in second}
    return np.array([
        draw.macro_f1 - scores[draw.cells, draw.seed]
        for draw in first
        if (draw.cells, draw.seed) in scores
    ])  # fmt: skip


def interval_of_mean(values: Floats) -> tuple[float, float]:
    """Return the interval that holds 95 % of bootstrap means of values (n,)."""
    rows = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[rows].mean(1), (0.025, 0.975))
    return float(low), float(high)
