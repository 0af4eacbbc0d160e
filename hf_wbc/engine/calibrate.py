"""Calibrate a trained model, correct it for label shift, and fit when it should abstain.

One temperature is fitted on the sources' validation images with equal weight for each class, and
is merged into the exported head. Anyone who loads the plain model gets calibrated probabilities,
and no prediction changes. Target images are not used: weighting the fit by a target's estimated
priors did not help. On 179 runs from Acevedo to three other laboratories, the mean calibration
error was .55, .61 and .44 with such weights, and .53, .58 and .43 without. No run is calibrated
outside its sources; the record shows the error. Correcting the model for a target's priors
increases it.

The class priors of each target are estimated from its training images, without labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_wbc.engine.context import RunContext
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import headline
from hf_wbc.evaluation.abstention import Abstention, abstention_scores, fit_abstention
from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.evaluation.calibration import calibrate as fit_temperature
from hf_wbc.evaluation.label_shift import METHODS as ESTIMATORS
from hf_wbc.evaluation.label_shift import PriorEstimate, estimate_priors, prior_correction
from hf_wbc.evaluation.metrics import score
from hf_wbc.models import LogitAffine, PretrainedModel
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

__all__ = [
    "AbstentionReport",
    "CalibrationResult",
    "LabelShiftResult",
    "SplitPredictions",
    "calibrate",
    "correct_label_shift",
    "fit_run_abstention",
    "fit_temperature_affine",
    "report_abstention",
]

SplitPredictions = Mapping[tuple[str, str], Predictions]
"""Predictions by (domain, split)."""
FORGETTING_THRESHOLD = 0.05
"""Drop in balanced accuracy on source validation images that is reported after a second phase."""


@dataclass(frozen=True)
class CalibrationResult:
    """The fitted temperature, and the predictions after temperature scaling."""

    temperature: float
    logit_affine: LogitAffine
    """Scale 1 / temperature, and the bias that keeps absent classes absent."""
    predictions: SplitPredictions


def calibrate(context: RunContext, raw: SplitPredictions) -> CalibrationResult:
    """Fit one temperature on the sources' validation images.

    Args:
        context: The run.
        raw: Predictions of the trained model.
    """
    temperature, affine = fit_temperature_affine(*_source_validation(context, raw))
    return CalibrationResult(
        temperature, affine, _transform(raw, affine.scale, affine.bias.numpy())
    )


def fit_temperature_affine(logits: np.ndarray, labels: np.ndarray) -> tuple[float, LogitAffine]:
    """Fit a temperature to validation images, and return it with the map that applies it.

    The bias of the map is 0, except for classes that are never predicted, whose logit stays at
    `NEVER`. Without images, the temperature is 1.

    Args:
        logits: Logits (N, 11).
        labels: Class ids (N,).
    """
    if not len(labels):
        return 1.0, LogitAffine(1.0, torch.zeros(NUM_CLASSES, dtype=torch.float64))
    temperature = fit_temperature(logits, labels, biased=False).temperature
    is_absent = (logits <= NEVER / 2).all(0)
    bias = np.where(is_absent, NEVER * (1 - 1 / temperature), 0.0)
    return temperature, LogitAffine(1 / temperature, torch.from_numpy(bias))


@dataclass(frozen=True)
class LabelShiftResult:
    """Estimated class priors of each target, and the predictions after correcting for them."""

    estimates: Mapping[str, Mapping[str, PriorEstimate]]
    """Estimates by target and estimator. A target has none if its training split, or the sources'
    validation splits, have no images."""
    record: Mapping[str, Any]
    """Entry for record.json: the estimates of each target, and the test scores each would give."""
    logit_affines: Sequence[LogitAffine]
    """The correction; empty if none was requested."""
    predictions: SplitPredictions

    @property
    def priors(self) -> dict[str, tuple[float, ...]]:
        """Maximum-likelihood class priors (11,) of each target."""
        return {name: found["em"].priors for name, found in self.estimates.items() if found}

    @property
    def warnings(self) -> list[str]:
        """One sentence for each target whose differences label shift does not explain."""
        found = (_label_shift_warning(name, kinds) for name, kinds in self.estimates.items())
        return [warning for warning in found if warning]


def correct_label_shift(context: RunContext, calibrated: SplitPredictions) -> LabelShiftResult:
    """Estimate the class priors of each target, and correct predictions for them if requested.

    Args:
        context: The run; `eval.correct_priors` chooses the estimator.
        calibrated: Predictions after temperature scaling.
    """
    domain_set, kind = context.domain_set, context.config.eval.correct_priors
    logits, labels = _source_validation(context, calibrated)
    estimates = {
        target.name: {
            each: estimate_priors(each, logits, labels, calibrated[target.name, "train"].logits)
            for each in ESTIMATORS
            if len(labels) and len(target.train)
        }
        for target in domain_set.targets
    }
    record = _label_shift_record(context, estimates, calibrated)
    if kind == "none":
        return LabelShiftResult(estimates, record, (), calibrated)
    scale, bias = _prior_correction(estimates[domain_set.targets[0].name][kind])
    affine = LogitAffine(scale, torch.from_numpy(bias))
    return LabelShiftResult(estimates, record, (affine,), _transform(calibrated, scale, bias))


def _prior_correction(estimate: PriorEstimate) -> tuple[float, np.ndarray]:
    """Return the scale and bias (C,) that adapt logits to a target's estimated priors.

    Priors have a lower bound of less than one image, because any source class may still occur.
    """
    floor = np.array(estimate.calibration.seen) / (estimate.num_target + NUM_CLASSES)
    priors = np.maximum(estimate.priors, floor)
    return prior_correction(estimate.calibration, priors / priors.sum())


def _label_shift_record(
    context: RunContext,
    estimates: Mapping[str, Mapping[str, PriorEstimate]],
    predictions: SplitPredictions,
) -> dict[str, Any]:
    """Return the estimates of each target and the scores that each would give."""
    config, record = context.config, {}
    merge, classes, seed = config.eval.merge, config.eval.classes, config.seed
    for target in context.domain_set.targets:
        uncorrected = predictions[target.name, "test"].logits
        entry: dict[str, Any] = {
            "estimated_on": "train",
            "class_names": list(NAMES),
            "note": _label_shift_warning(target.name, estimates[target.name]),
            "uncorrected": headline(target.test, uncorrected.argmax(1), merge, classes, seed),
        }
        for kind, estimate in estimates[target.name].items():
            scale, bias = _prior_correction(estimate)
            corrected = (scale * uncorrected + bias).argmax(1)
            scores = headline(target.test, corrected, merge, classes, seed)
            entry[kind] = {**estimate.to_dict(), "scores": scores}
        record[target.name] = entry
    return record


def _label_shift_warning(target: str, estimates: Mapping[str, PriorEstimate]) -> str:
    """Return a warning about the estimates; empty if label shift explains the difference."""
    if not estimates:
        return f"the class priors of {target} are not estimated, for want of images"
    estimate = estimates[ESTIMATORS[0]]
    if estimate.label_shift_ks <= estimate.label_shift_ks_limit:
        return ""
    return (
        f"{target} differs from the sources in more than class priors (KS statistic "
        f"{estimate.label_shift_ks:.2f}; chance alone gives up to "
        f"{estimate.label_shift_ks_limit:.2f}): do not rely on the estimated priors, or on a model "
        "corrected for them"
    )


@dataclass(frozen=True)
class AbstentionReport:
    """When the saved model abstains, and how well that works on each scored domain."""

    abstention: Abstention
    record: Mapping[str, Any]
    """Entry for record.json."""


def report_abstention(
    context: RunContext,
    raw: SplitPredictions,
    calibration: CalibrationResult,
    shift: LabelShiftResult,
) -> AbstentionReport:
    """Fit conformal sets and rejection thresholds, and score them on every scored domain.

    Classes are merged and selected as configured, except on sources: these are scored on all of
    their images, because the coverage guarantee holds for all of them.

    Args:
        context: The run.
        raw: Predictions of the trained model.
        calibration: Result of `calibrate`.
        shift: Result of `correct_label_shift`; its predictions are those of the saved model.
    """
    final, evaluation = shift.predictions, context.config.eval
    held_out = _source_validation(context, final)
    abstention = fit_abstention(*held_out, calibration.temperature, shift.priors)
    domains: dict[str, dict[str, Any]] = {}
    for role, domain, split in context.domain_set.scored():
        key, is_source = (domain.name, split.split), role == "source"
        domains.setdefault(domain.name, {"role": role})[split.split] = abstention_scores(
            abstention,
            domain.name,
            final[key].logits,
            split.labels,
            before=raw[key].logits,
            merge=() if is_source else evaluation.merge,
            classes=() if is_source else evaluation.classes,
        )
    record = {
        **abstention.to_dict(),
        "fitted_on": "validation images of the sources",
        "note": "; ".join(_notes(context, raw, shift)),
        "domains": domains,
    }
    return AbstentionReport(abstention, record)


def fit_run_abstention(pretrained: PretrainedModel) -> Abstention | None:
    """Return the abstention saved with a trained model; None for models of older versions.

    Raises:
        ValueError: If what is saved with the model is damaged.
    """
    if pretrained.abstention is None:
        return None
    try:
        return Abstention.from_dict(pretrained.abstention)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the calibration in the model's config.json is damaged ({error!r}); "
            "take the original folder"
        ) from error


def _notes(context: RunContext, raw: SplitPredictions, shift: LabelShiftResult) -> Sequence[str]:
    """Return caveats about the calibration for readers of the record."""
    notes = []
    if not any(len(source.validation) for source in context.domain_set.sources):
        notes.append(
            "the sources have no validation images, so nothing is calibrated: the temperature is "
            "1, every set holds every class, no image is rejected, and all are sent to review"
        )
    before = _accuracy_before_adapting(context.folder.read_history(), context.config.eval.selection)
    after = _source_balanced_accuracy(context, raw)
    if before is not None and after is not None and before - after > FORGETTING_THRESHOLD:
        notes.append(
            "the second phase degraded the model on its sources: balanced accuracy on their "
            f"validation images fell from {before:.3f} to {after:.3f}, and temperature and "
            "thresholds were fitted on these images"
        )
    if context.config.eval.correct_priors != "none":
        notes.append(
            f"the model is corrected for the priors of {context.domain_set.targets[0].name}, so "
            "its probabilities on source images are not calibrated"
        )
    notes += [
        f"{warning}; this applies to conformal sets of label_shift too"
        for warning in shift.warnings
    ]
    return notes


def _source_validation(
    context: RunContext, predictions: SplitPredictions
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N, 11) and labels (N,) of all sources' validation images."""
    sources = context.domain_set.sources
    logits = [predictions[source.name, "validation"].logits for source in sources]
    return np.concatenate(logits), np.concatenate([s.validation.labels for s in sources])


def _transform(predictions: SplitPredictions, scale: float, bias: np.ndarray) -> SplitPredictions:
    """Return predictions with logits `scale * logits + bias`, with `bias` (11,)."""
    return {key: each.transform_logits(scale, bias) for key, each in predictions.items()}


def _accuracy_before_adapting(history: Sequence[Mapping[str, Any]], rule: str) -> float | None:
    """Return the balanced accuracy on source validation images at the start of the second phase.

    None if the run has no second phase, or no such images.
    """
    if all(row["phase"] == "fit" or not row["source_val"] for row in history):
        return None
    fitted = [row for row in history if row["phase"] == "fit"]
    start = max(fitted, key=lambda row: row["selection"].get(rule, row["step"]))
    found = [scores["balanced_accuracy"] for scores in start["source_val"].values()]
    return float(np.mean(found))


def _source_balanced_accuracy(context: RunContext, predictions: SplitPredictions) -> float | None:
    """Return the mean balanced accuracy on the sources' validation images, None without any."""
    scores = [
        score(source.validation.labels, predictions[source.name, "validation"].classes)
        for source in context.domain_set.sources
        if len(source.validation)
    ]
    return float(np.mean([each["balanced_accuracy"] for each in scores])) if scores else None
