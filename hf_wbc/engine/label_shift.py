"""The target's class priors, estimated from its training images without labels, and their use."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_wbc.engine.context import Context
from hf_wbc.engine.predict import Predictions
from hf_wbc.engine.scoring import headline
from hf_wbc.evaluation.label_shift import METHODS as ESTIMATORS
from hf_wbc.evaluation.label_shift import PriorEstimate, estimate_priors, folded
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

Scored = Mapping[tuple[str, str], Predictions]
"""Predictions by domain and split."""


class LabelShift:
    """Estimates for every target of a run, from source validation and target training images."""

    def __init__(self, context: Context, predicted: Scored) -> None:
        self.context = context
        sources = context.corpus.sources
        logits_s = np.concatenate([predicted[s.name, "validation"].logits for s in sources])
        labels_s = np.concatenate([splits.validation.labels for splits in sources])
        targets = [splits.name for splits in context.corpus.targets]
        self._estimates: dict[str, dict[str, PriorEstimate]] = {
            name: {
                kind: estimate_priors(kind, logits_s, labels_s, predicted[name, "train"].logits)
                for kind in ESTIMATORS
            }
            for name in targets
        }

    def change(self, target: str, kind: str) -> tuple[float, np.ndarray]:
        """Scale and bias (C,) that make a target's logits those under its estimated priors.

        An estimate of 0 counts as less than one image: a class that some source has can come.
        """
        estimate = self._estimates[target][kind]
        floor = np.array(estimate.calibration.seen) / (estimate.num_target + NUM_CLASSES)
        priors = np.maximum(estimate.priors, floor)
        return folded(estimate.calibration, priors / priors.sum())

    def priors(self, target: str) -> tuple[float, ...]:
        """Of a target (11,), by maximum likelihood."""
        return self._estimates[target]["em"].priors

    def facts(self, predicted: Scored) -> dict[str, Any]:
        """For the record: estimates, and the test scores that each would give, by target."""
        config, found = self.context.config, {}
        for splits in self.context.corpus.targets:
            test, uncorrected = splits.test, predicted[splits.name, "test"].logits
            entry: dict[str, Any] = {
                "estimated_on": "train",
                "class_names": list(NAMES),
                "note": self.doubt(splits.name),
                "uncorrected": headline(
                    test, uncorrected.argmax(1), config.merge, config.classes, config.seed
                ),
            }
            for kind in ESTIMATORS:
                scale, bias = self.change(splits.name, kind)
                guessed = (scale * uncorrected + bias).argmax(1)
                entry[kind] = {
                    **self._estimates[splits.name][kind].to_dict(),
                    "scores": headline(test, guessed, config.merge, config.classes, config.seed),
                }
            found[splits.name] = entry
        return found

    def doubt(self, target: str) -> str:
        """What a reader of the estimates has to know; empty where label shift explains the rest."""
        estimate = self._estimates[target][ESTIMATORS[0]]
        if estimate.misfit <= estimate.misfit_limit:
            return ""
        return (
            f"{target} differs from the sources in more than class priors (misfit "
            f"{estimate.misfit:.2f}, {estimate.misfit_limit:.2f} would be chance): estimated "
            "priors, and a model corrected for them, are not to be trusted"
        )
