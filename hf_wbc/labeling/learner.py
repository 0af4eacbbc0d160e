"""Active learning in one object: which cells to label next, and the head that the labels give.

`Learner` is what the command line, the page, the benchmark and notebooks use. To scikit-learn it is
a classifier of features, so that scorers and plots take it; `fit` uses the labels it was told.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from hf_wbc.data.labels_file import Answer, match_names, parse_class
from hf_wbc.data.reader_agreement import agreed_labels
from hf_wbc.evaluation.metrics import score
from hf_wbc.labeling.adapt import (
    Adaptation,
    adapt,
    held_out_scores,
    quick_head,
    source_head,
    unadapted,
)
from hf_wbc.labeling.adapted_model import FACTS_FILE, save_adapted
from hf_wbc.labeling.cut_network import CutNetwork
from hf_wbc.labeling.estimate import (
    FEWEST_SAMPLED,
    LearningCurve,
    LocalCalibration,
    ScoreEstimate,
    calibrate_locally,
    calibrated_on,
    estimate_scores,
    extrapolate,
    random_order,
    random_sample,
)
from hf_wbc.labeling.few_shot import FAMILIES, Head, LinearFewShotHead, logits_in_chunks
from hf_wbc.labeling.last_block import HEADS, LAST_BLOCK, adapt_last_block, cut_for_pool
from hf_wbc.labeling.pool import Floats, Ids, Pool, embed_for_choice
from hf_wbc.labeling.strategies import PoolView, load_strategy
from hf_wbc.models import PretrainedModel
from hf_wbc.records import write_json
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean

__all__ = ["DEFAULT_STRATEGY", "RANDOM_SHARE", "Learner"]

DEFAULT_STRATEGY = "typical_then_margin"
RANDOM_SHARE = 0.3
"""Part of each batch that is taken in random order, for an unbiased estimate of the scores."""


class Learner:
    """Chooses cells of a pool, learns from their labels, and predicts.

    Attributes:
        pool: The cells.
        labels: Class id of each labeled cell, by name.
        answered: Names of all cells that need not be shown again, including skipped ones.
        conflicts: Names of cells whose readers disagree.
        adaptation_: The head that `fit` has found.

    Example:
        learner = hf_wbc.label("spaces/wbc/model", "my_cells", cell_fills_frame=True)
        for image_id in learner.next(10):
            learner.tell(image_id, ask(image_id))
        learner.fit().predict()
    """

    classes_ = np.array(NAMES)
    """Names of the eleven classes, by id."""
    adaptation_: Adaptation | None = None

    def __init__(
        self,
        pool: Pool,
        source: LinearFewShotHead,
        *,
        pretrained: PretrainedModel | None = None,
        network: CutNetwork | None = None,
        prototypes: Floats | None = None,
        strategy: str = DEFAULT_STRATEGY,
        head: str = "logistic",
        random_share: float = RANDOM_SHARE,
        merge: Sequence[str] = (),
        adapts: bool = True,
        seed: int = 0,
    ) -> None:
        """Start without labels.

        Args:
            pool: The cells of the laboratory.
            source: The model's own head.
            pretrained: The model, which is needed to save.
            network: The model cut before its last block; the head `last_block` cuts it otherwise.
            prototypes: Source prototypes (11, d), for the heads that use them.
            strategy: One of `hf_wbc.labeling.strategies.strategy_names()`.
            head: Family of the head, one of `HEADS`.
            random_share: Part of each batch in random order, in [0, 1].
            merge: Classes to score as one, as FROM=INTO.
            adapts: Fit a head to the labels; otherwise they only judge the source's.
            seed: Seed of all choices.

        Raises:
            ValueError: For an unknown strategy or head, a share outside [0, 1], or the head
                `last_block` without images.
        """
        if head not in HEADS:
            raise ValueError(f"unknown head {head!r}; {did_you_mean(head, HEADS)}")
        if not 0 <= random_share <= 1:
            raise ValueError(f"random_share is {random_share}; it must lie in 0..1")
        if head == LAST_BLOCK and network is None:
            network = cut_for_pool(pretrained, pool)
        self._choose, self._network = load_strategy(strategy), network
        self.pool, self.source, self.pretrained = pool, source, pretrained
        self.prototypes, self.strategy, self.head = prototypes, strategy, head
        self.random_share, self.merge, self.seed = random_share, tuple(merge), seed
        self.adapts = adapts
        self.labels: dict[str, int] = {}
        self.answered: set[str] = set()
        self.conflicts: list[str] = []
        self._answers: list[Answer] = []
        self._quick: Head | None = None

    @classmethod
    def of_model(cls, pretrained: PretrainedModel, pool: Pool, **options: Any) -> Self:
        """Start from a model's own head; options as in the constructor."""
        return cls(pool, source_head(pretrained), pretrained=pretrained, **options)

    @property
    def num_left(self) -> int:
        """Number of cells that have not been answered."""
        return len(self.pool) - len(self.answered)

    def next(self, num: int = 10) -> list[str]:
        """Return the names of the cells to label next, in random order.

        Raises:
            ValueError: If fewer cells are left.
        """
        if not 1 <= num <= self.num_left:
            raise ValueError(
                f"{num} cells are wanted, but {self.num_left} of the {len(self.pool)} cells of "
                f"{self.pool.name} are left; ask for 1 to {self.num_left}"
            )
        rng = np.random.default_rng((self.seed, len(self.answered)))
        order = [r for r in self._random_order if self.pool.image_ids[r] not in self.answered]
        chosen = np.array(order[: round(self.random_share * num)], np.int64)
        rest = np.setdiff1d(np.array(order, np.int64), chosen)
        if len(chosen) < num:
            picked = self._choose(self._view(rest), num - len(chosen), rng)
            chosen = np.concatenate([chosen, picked])
        return [self.pool.image_ids[row] for row in rng.permutation(chosen)]

    def tell(
        self,
        image_ids: str | Sequence[str],
        labels: str | int | Sequence[str | int],
        reader: str = "",
    ) -> Self:
        """Give labels of cells; a later answer of the same reader replaces an earlier one.

        Args:
            image_ids: Name of a cell, or names.
            labels: A class name or id for each; `skip` and `other` leave the cell out.
            reader: Who says so.

        Raises:
            ValueError: For unknown cells, test cells or unknown classes.
        """
        names = [image_ids] if isinstance(image_ids, str) else list(image_ids)
        given = [labels] if isinstance(labels, str | int | np.integer) else list(labels)
        if len(names) != len(given):
            raise ValueError(f"{len(given)} labels for {len(names)} cells; give one for each")
        self.tell_answers(
            Answer(name, _label_name(each), reader) for name, each in zip(names, given, strict=True)
        )
        return self

    def tell_answers(self, answers: Iterable[Answer]) -> None:
        """Give answers of a labels file. Raises as `tell`."""
        new = match_names(list(answers), self._place, self.pool.held_out)
        self.pool.rows([each.image_id for each in new])
        replaced = {(each.image_id, each.reader) for each in new}
        kept = [a for a in self._answers if (a.image_id, a.reader) not in replaced]
        self._answers = [*kept, *new]
        self.labels, self.conflicts = agreed_labels(self._answers)
        self.answered = {each.image_id for each in self._answers}
        self._quick = self.adaptation_ = None

    def forget(self, answer: Answer) -> None:
        """Take back one answer."""
        self._answers = [each for each in self._answers if each != answer]
        self.tell_answers(())

    @property
    def answers(self) -> list[Answer]:
        """All answers, in the order in which they were given."""
        return list(self._answers)

    def fit(self) -> Self:
        """Fit the head to the labels so far, with cross-validation."""
        rows, labels = self._labeled()
        if not self.adapts:
            self.adaptation_ = unadapted(self.pool, rows, labels, self.source)
        elif self.head == LAST_BLOCK:
            assert self._network is not None
            self.adaptation_ = adapt_last_block(
                self._network, self.pool, rows, labels, self.source, seed=self.seed
            )
        else:
            self.adaptation_ = adapt(
                self.pool, rows, labels, self.source, family=self.head,
                prototypes=self.prototypes, seed=self.seed,
            )  # fmt: skip
        return self

    @property
    def adaptation(self) -> Adaptation:
        """The fitted head; fits it first if there are new labels."""
        if self.adaptation_ is None:
            self.fit()
        assert self.adaptation_ is not None
        return self.adaptation_

    def __sklearn_is_fitted__(self) -> bool:
        return self.adaptation_ is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=False), classifier_tags=ClassifierTags())

    def decision_function(self, features: ArrayLike | None = None) -> Floats:
        """Return logits (N, 11) of features (N, d); of the pool's cells by default."""
        head = self.adaptation.head
        if features is None:
            return head.pool_logits(self.pool)
        return logits_in_chunks(head, np.asarray(features))

    def predict_proba(self, features: ArrayLike | None = None) -> Floats:
        """Return class probabilities (N, 11) of features (N, d); of the pool by default."""
        found: Floats = softmax(self.decision_function(features), axis=1)
        return found

    def predict(self, features: ArrayLike | None = None) -> NDArray[np.str_]:
        """Return class names (N,) of features (N, d); of the pool's cells by default."""
        names: NDArray[np.str_] = self.classes_[self.decision_function(features).argmax(1)]
        return names

    def score(self, features: ArrayLike, labels: Sequence[str]) -> float:
        """Return macro-F1 of features (N, d) whose class names (N,) are known."""
        true = [NAMES.index(parse_class(each)) for each in labels]
        predicted = self.decision_function(features).argmax(1)
        return float(score(true, predicted, merge=self.merge)["macro_f1"])

    def quick_proba(self, rows: Ids) -> Floats:
        """Return class probabilities (n, 11) of rows of the pool by the head between batches.

        This head is not cross-validated; it is what chooses cells and suggests classes.
        """
        found: Floats = softmax(logits_in_chunks(self._current, self.pool.features[rows]), axis=1)
        return found

    @property
    def sample(self) -> Ids:
        """Rows of the random sample of the pool that has a class label."""
        rows = random_sample(self.pool.image_ids, self.answered, self.seed)
        known = [row for row in rows if self.pool.image_ids[row] in self.labels]
        return np.array(known, np.int64)

    def held_out_logits(self, head: Adaptation | None = None) -> Floats:
        """Return logits (N, 11) of all cells; labeled ones by heads that did not see them."""
        adaptation = head or self.adaptation
        logits = adaptation.head.pool_logits(self.pool)
        logits[adaptation.rows] = adaptation.held_out_logits
        return logits

    def estimate(self) -> tuple[ScoreEstimate, ScoreEstimate] | None:
        """Estimate the scores in this laboratory with labels, and without them.

        Returns:
            The estimates of the adapted head and of the source's; None with fewer than 10 random
            cells.
        """
        sample = self.sample
        if len(sample) < FEWEST_SAMPLED:
            return None
        true = np.array([self.labels[self.pool.image_ids[row]] for row in sample], np.int64)
        seen = sorted(set(self.labels.values()))
        after, before = self.held_out_logits(), self.source.pool_logits(self.pool)
        one, other = (
            estimate_scores(
                logits.argmax(1), logits[sample].argmax(1), true,
                probabilities=calibrated_on(logits, sample, true), classes=seen, merge=self.merge,
            )
            for logits in (after, before)
        )  # fmt: skip
        return one, other

    def calibration(self) -> LocalCalibration | None:
        """Fit temperature and conformal sets on the random sample; None with under 10 cells."""
        sample = self.sample
        if len(sample) < FEWEST_SAMPLED:
            return None
        true = np.array([self.labels[self.pool.image_ids[row]] for row in sample], np.int64)
        return calibrate_locally(self.held_out_logits()[sample], true)

    def learning_curve(self, next_labels: int = 50) -> LearningCurve | None:
        """Say what the next labels will probably bring.

        Returns:
            None where the source head stays, and for a tuned block, which would be trained again
            for each of 24 parts of the labels.
        """
        adaptation = self.adaptation
        num = len(adaptation.rows)
        sizes = [size for size in (num // 4, num // 2, 3 * num // 4) if size >= 5]
        if adaptation.family not in FAMILIES or len(sizes) < 2:
            return None
        scores = held_out_scores(self.pool, adaptation, self.source, sizes, seed=self.seed)
        return extrapolate(sizes, scores, next_labels)

    def save(self, folder: str | Path) -> Path:
        """Save the adapted model as a plain transformers model.

        labeling.json beside it says how many labels it has seen, chosen how and given by whom.

        Raises:
            ValueError: If the source head stays or is not linear, or another folder is there.
        """
        assert self.pretrained is not None, "a learner without a model cannot save one"
        adaptation = self.adaptation
        if not adaptation.is_adapted:
            raise ValueError(f"there is nothing to save: {adaptation.sentences[-1]}")
        is_random = np.isin(adaptation.rows, self.sample)
        save_adapted(self.pretrained, adaptation, self.pool, is_random, Path(folder))
        write_json(Path(folder) / FACTS_FILE, self.facts())
        return Path(folder)

    def facts(self) -> dict[str, Any]:
        """Return how many cells were labeled, chosen how and by whom, as plain JSON values."""
        counts = np.bincount(list(self.labels.values()), minlength=len(NAMES)).tolist()
        adaptation, found = self.adaptation, self.estimate()
        return {
            "laboratory": self.pool.name,
            "num_cells": len(self.pool),
            "num_labels": {name: num for name, num in zip(NAMES, counts, strict=True) if num},
            "num_random": len(self.sample),
            "readers": sorted({each.reader for each in self._answers if each.reader}),
            "strategy": self.strategy,
            "random_share": self.random_share,
            "seed": self.seed,
            "head": adaptation.family,
            "settings": adaptation.settings,
            "merge": list(self.merge),
            "with_labels": found and found[0].to_dict(),
            "without_labels": found and found[1].to_dict(),
        }

    def _labeled(self) -> tuple[Ids, Ids]:
        rows = np.array([self._place[each] for each in self.labels], np.int64)
        return rows, np.array(list(self.labels.values()), np.int64)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.pool.image_ids)}

    @cached_property
    def _random_order(self) -> Ids:
        return random_order(self.pool.image_ids, self.seed)

    @cached_property
    def _embedding(self) -> NDArray[np.float32]:
        return embed_for_choice(self.pool.features)

    @property
    def _current(self) -> Head:
        if self._quick is None:
            self._quick = quick_head(self.pool, *self._labeled(), self.source)
        return self._quick

    def _view(self, candidates: Ids) -> PoolView:
        rows, labels = self._labeled()
        logits = self._current.pool_logits(self.pool)
        probabilities = softmax(logits, axis=1).astype(np.float32)
        return PoolView(self._embedding, probabilities, candidates, rows, labels)


def _label_name(label: str | int) -> str:
    """Return the label that a class name or id stands for."""
    if isinstance(label, str):
        return parse_class(label)
    if not 0 <= label < len(NAMES):
        raise ValueError(f"the class id is {label}; it must lie in 0..{len(NAMES) - 1}")
    return NAMES[label]
