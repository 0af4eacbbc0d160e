"""Calibration at the end of a run, and what the saved model is told of its own doubt.

One temperature is fitted on the sources' validation images, every class weighing alike, and folded
into the head: whoever loads the plain model gets calibrated probabilities, and no prediction
changes. No target image has a say in it. Weighting the fit by a target's estimated priors was tried
on 179 runs from Acevedo to three other laboratories, and was no better there (mean calibration
error .55, .61 and .44, against .53, .58 and .43). None of them is calibrated away from home; the
record shows by how much. A model corrected for a target's priors is calibrated further by that.

The target's class priors, estimated from its training images without labels, and their use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_wbc.engine.context import RunContext
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import headline
from hf_wbc.evaluation.abstention import Abstention, abstention_scores, fit_abstention
from hf_wbc.evaluation.calibration import NEVER, calibrate
from hf_wbc.evaluation.label_shift import METHODS as ESTIMATORS
from hf_wbc.evaluation.label_shift import PriorEstimate, estimate_priors, prior_correction
from hf_wbc.evaluation.metrics import score
from hf_wbc.models import PretrainedModel
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

Scored = Mapping[tuple[str, str], Predictions]
"""Predictions by domain and split."""


class LabelShift:
    """Estimates for every target of a run, from source validation and target training images."""

    def __init__(self, context: RunContext, predicted: Scored) -> None:
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
        return prior_correction(estimate.calibration, priors / priors.sum())

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
                    test, uncorrected.argmax(1), config.eval.merge, config.eval.classes, config.seed
                ),
            }
            for kind in ESTIMATORS:
                scale, bias = self.change(splits.name, kind)
                guessed = (scale * uncorrected + bias).argmax(1)
                entry[kind] = {
                    **self._estimates[splits.name][kind].to_dict(),
                    "scores": headline(
                        test, guessed, config.eval.merge, config.eval.classes, config.seed
                    ),
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


FORGOTTEN = 0.05
"""Fall of the balanced accuracy on source validation beyond which a second phase is remarked."""


def source_temperature(context: RunContext, predicted: Scored) -> tuple[float, np.ndarray]:
    """By which logits are divided, from the sources' validation images, and what is added (11,).

    That is 0, but for a class that was never taught: its logit stays the one that says never.
    """
    logits, labels = _held_out(context, predicted)
    temperature = calibrate(logits, labels, biased=False).temperature
    never = (logits <= NEVER / 2).all(0)
    return temperature, np.where(never, NEVER * (1 - 1 / temperature), 0.0)


@dataclass(frozen=True)
class AbstentionReport:
    """The abstention of a finished run, and what it takes to tell what it is worth."""

    abstention: Abstention
    raw: Scored
    """As trained."""
    final: Scored
    """As saved."""
    notes: Sequence[str]

    @property
    def note(self) -> str:
        """What a reader has to know; empty where there is nothing."""
        return "; ".join(self.notes)

    def facts(self, context: RunContext) -> dict[str, Any]:
        """For the record: what is saved with the model, and its worth on every scored domain.

        Classes are merged and left out on other domains alone: on a source, of which everything
        is known, what was promised for all of its images can be looked at.
        """
        config, domains = context.config, dict[str, dict[str, Any]]()
        for role, splits, domain in context.corpus.scored():
            key, is_source = (splits.name, domain.split), role == "source"
            domains.setdefault(splits.name, {"role": role})[domain.split] = abstention_scores(
                self.abstention,
                splits.name,
                self.final[key].logits,
                domain.labels,
                before=self.raw[key].logits,
                merge=() if is_source else config.eval.merge,
                classes=() if is_source else config.eval.classes,
            )
        return {
            **self.abstention.to_dict(),
            "fitted_on": "validation images of the sources",
            "note": self.note,
            "domains": domains,
        }


def abstention_report(
    context: RunContext,
    temperature: float,
    raw: Scored,
    final: Scored,
    label_shift: LabelShift | None,
) -> AbstentionReport:
    """Fit what is saved with the model; `raw` and `final` are predictions before and after."""
    targets = [splits.name for splits in context.corpus.targets]
    priors = {name: label_shift.priors(name) for name in targets} if label_shift else {}
    abstention = fit_abstention(*_held_out(context, final), temperature, priors)
    return AbstentionReport(abstention, raw, final, _notes(context, raw, label_shift))


def fit_run_abstention(loaded: PretrainedModel) -> Abstention | None:
    """What a trained model was saved with; None where that was before there was such a thing."""
    return None if loaded.abstention is None else Abstention.from_dict(loaded.abstention)


def _held_out(context: RunContext, predicted: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 11) and labels (N,) of all sources' validation images."""
    sources = context.corpus.sources
    logits = [predicted[splits.name, "validation"].logits for splits in sources]
    return np.concatenate(logits), np.concatenate([s.validation.labels for s in sources])


def _notes(context: RunContext, raw: Scored, label_shift: LabelShift | None) -> Sequence[str]:
    notes = []
    before = _before_adapting(context.folder.read_history(), context.config.eval.selection)
    after = _balanced_accuracy(context, raw)
    if before is not None and before - after > FORGOTTEN:
        notes.append(
            "the second phase moved the model away from its sources: balanced accuracy on their "
            f"validation images fell from {before:.3f} to {after:.3f}, and temperature and "
            "thresholds, which are fitted there, are those of images that the model no longer fits"
        )
    if context.config.eval.correct_priors != "none":
        notes.append(
            f"the model is corrected for the priors of {context.corpus.targets[0].name}, so that "
            "its probabilities on source images are not calibrated"
        )
    if label_shift:
        doubts = [label_shift.doubt(splits.name) for splits in context.corpus.targets]
        notes += [f"{found}; so are sets of label_shift" for found in doubts if found]
    return notes


def _before_adapting(history: Sequence[Mapping[str, Any]], rule: str) -> float | None:
    """Balanced accuracy on source validation where the second phase began; None without one."""
    if all(row["phase"] == "fit" for row in history):
        return None
    fitted = [row for row in history if row["phase"] == "fit"]
    start = max(fitted, key=lambda row: row["selection"][rule])
    found = [scores["balanced_accuracy"] for scores in start["source_val"].values()]
    return float(np.mean(found))


def _balanced_accuracy(context: RunContext, predicted: Scored) -> float:
    """Mean over the sources, on their validation images."""
    return float(
        np.mean(
            [
                score(s.validation.labels, predicted[s.name, "validation"].classes)[
                    "balanced_accuracy"
                ]
                for s in context.corpus.sources
            ]
        )
    )
