"""Evaluate a classifier during training with everything that the selection rules need.

Target images are used here without labels. Only `oracle` reads target labels, on request, and only
to assess the selection rules afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from hf_wbc.engine.context import RunContext
from hf_wbc.engine.domains import Domain, DomainSet
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import HEADLINE
from hf_wbc.evaluation.label_shift import estimate_priors
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.model_selection import (
    NEEDS_SOURCE,
    SelectionRule,
    ValidationOutputs,
    selection_rule,
    unlabeled_scores,
)
from hf_wbc.models import Classifier


def usable_rule(rule: SelectionRule, domain_set: DomainSet) -> SelectionRule:
    """Return the rule, or `last` if the validation images that it scores do not exist."""
    num_images = {
        role: sum(len(domain.validation) for domain in getattr(domain_set, role))
        for role in ("sources", "targets", "held_out")
    }
    roles = {"source_val": ["sources"], "held_out": ["held_out"], "last": []}
    needed = roles.get(rule.name, ["targets"])
    if rule.name in NEEDS_SOURCE:
        needed = ["sources", "targets"]
    return rule if all(num_images[role] for role in needed) else selection_rule("last")


class Validation:
    """Scores a classifier on every domain's validation images.

    It keeps the mean prediction over all evaluations so far, for the rule `agreement`, and the
    target priors estimated at the first evaluation. Estimating priors again at each evaluation
    could make a collapsed classifier look correct.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self._sums: dict[str, Tensor] = {}
        """Sum of the predicted probabilities (N, C) over all evaluations, for each target."""
        self._num = 0
        self._priors: dict[str, Tensor] = {}
        """Class priors (C,) of each target."""

    def __call__(self, classifier: Classifier) -> dict[str, Any]:
        """Return the parts of an evaluation row that the selection rules use."""
        domain_set, config = self.context.domain_set, self.context.config
        sources = {splits.name: self._predict(classifier, splits) for splits in domain_set.sources}
        row: dict[str, Any] = {"source_val": self._labeled(domain_set.sources, sources)}
        if domain_set.held_out:
            held_out = {s.name: self._predict(classifier, s) for s in domain_set.held_out}
            row["held_out"] = self._labeled(domain_set.held_out, held_out)
        if domain_set.targets:
            targets = {
                splits.name: self._predict(classifier, splits) for splits in domain_set.targets
            }
            row["unlabeled"] = self._unlabeled(sources, targets)
        if config.eval.oracle:
            row["oracle"] = {
                splits.name: _headline(
                    splits.validation.labels,
                    targets[splits.name],
                    config.eval.merge,
                    config.eval.classes,
                )
                for splits in domain_set.targets
                if len(splits.validation)
            }
        return row

    def restart(self) -> None:
        """Discard the predictions of an earlier phase; the priors are kept."""
        self._sums, self._num = {}, 0

    def source_losses(self, classifier: Classifier) -> list[float]:
        """Return the mean cross-entropy on each source's validation images."""
        return [
            _mean_loss(splits.validation.labels, self._predict(classifier, splits))
            for splits in self.context.domain_set.sources
            if len(splits.validation)
        ]

    def state_dict(self) -> dict[str, Tensor]:
        """Return accumulated predictions and priors as tensors."""
        held = (("sum", self._sums), ("priors", self._priors))
        tensors = {f"{what}/{name}": part[name] for what, part in held for name in part}
        return {**tensors, "num": torch.tensor(self._num)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state from `state_dict`."""
        self._sums, self._priors = (
            {name.removeprefix(what): state[name] for name in state if name.startswith(what)}
            for what in ("sum/", "priors/")
        )
        self._num = int(state["num"]) if state else 0

    def _predict(self, classifier: Classifier, splits: Domain) -> Predictions:
        return self.context.predict(classifier, splits.validation)

    def _labeled(
        self, all_splits: Sequence[Domain], found: Mapping[str, Predictions]
    ) -> dict[str, Any]:
        return {
            splits.name: {
                **_headline(splits.validation.labels, found[splits.name]),
                "loss": _mean_loss(splits.validation.labels, found[splits.name]),
            }
            for splits in all_splits
            if len(splits.validation)
        }

    def _unlabeled(
        self, sources: Mapping[str, Predictions], targets: Mapping[str, Predictions]
    ) -> dict[str, dict[str, float]]:
        """Return all unsupervised validation scores of every target."""
        labels = np.concatenate([s.validation.labels for s in self.context.domain_set.sources])
        source = ValidationOutputs(
            features=np.concatenate([found.features for found in sources.values()]),
            logits=np.concatenate([found.logits for found in sources.values()]),
            labels=labels,
        )
        scores = {}
        for name, found in targets.items():
            if not len(found.logits):
                continue
            if name not in self._priors and len(labels):
                first = estimate_priors("em", source.logits, labels, found.logits, num_resamples=1)
                self._priors[name] = torch.tensor(first.priors, dtype=torch.float64)
            priors = self._priors[name].numpy() if name in self._priors else None
            ensemble = (self._sums[name] / self._num).numpy() if self._num else None
            target = ValidationOutputs(features=found.features, logits=found.logits)
            scores[name] = unlabeled_scores(source, target, priors, ensemble)
            probabilities = torch.from_numpy(softmax(found.logits.astype(np.float64), axis=1))
            self._sums[name] = self._sums.get(name, 0) + probabilities
        self._num += 1
        return scores


def _headline(
    labels: np.ndarray, found: Predictions, merge: Sequence[str] = (), classes: Sequence[str] = ()
) -> dict[str, float]:
    scores = score(labels, found.classes, merge=merge, classes=classes)
    return {name: scores[name] for name in HEADLINE}


def _mean_loss(labels: np.ndarray, found: Predictions) -> float:
    log_p = log_softmax(found.logits.astype(np.float64), axis=1)
    return float(-log_p[np.arange(len(labels)), labels].mean())
