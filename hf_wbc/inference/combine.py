"""Combine trained models: average the weights of relatives, or the predictions of any.

A soup is the weighted mean of the weights of models that were fine-tuned from the same weights and
the same head (Wortsman et al. 2022, arXiv:2203.05482). Two models give WiSE-FT (Wortsman et al.
2022, arXiv:2109.01903), if one is the start of the other: a linear probe and what was fine-tuned
from it. BatchNorm statistics are computed again on training images. A soup costs no more than one
model. An ensemble (`hf_wbc.models.ensemble`) takes any models of the same input, and costs as much
as all of them.

Both are recalibrated on the sources' validation images, and saved like the model of a run.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.adaptation.norm_layers import batch_logits, batch_norms, reset_statistics
from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.data.table import Table
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.calibrate import fit_temperature_affine
from hf_wbc.engine.domains import require_scale
from hf_wbc.engine.features import load_images
from hf_wbc.engine.forward import Report, predict, report_after, without_progress_bars
from hf_wbc.evaluation.abstention import Abstention, fit_abstention
from hf_wbc.evaluation.metrics import score
from hf_wbc.models import (
    Classifier,
    Exposure,
    PretrainedModel,
    export_classifier,
    load_trained,
    save_classifier,
)
from hf_wbc.models.ensemble import build_ensemble
from hf_wbc.records import atomic_replace, write_json
from hf_wbc.taxonomy import UNLABELED

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Combination", "average_weights", "combine_models"]

How = Literal["ensemble", "soup"]
NUM_FOR_STATISTICS = 1024
"""Training images that BatchNorm statistics are computed on, evenly spaced over the sources."""
BATCH = 64
COMBINATION_FILE = "combination.json"


@dataclass(frozen=True)
class Combination:
    """A saved combination and its scores on the sources' validation images."""

    folder: Path
    temperature: float
    macro_f1: float
    members: Mapping[str, float]
    """Macro-F1 of each member on the same images, by the name it was given by."""


def combine_models(
    names: Sequence[str],
    sources: Sequence[str],
    out: Path,
    how: How = "ensemble",
    weights: Sequence[float] = (),
    allow_unscaled: bool = False,
    report: Report = without_progress_bars,
) -> Combination:
    """Combine trained models, calibrate the result and save it as a model folder.

    Args:
        names: Folders or Hub models of the eleven classes, at least two.
        sources: Prepared datasets that the models were trained on; their validation images
            calibrate the result, their training images give a soup's BatchNorm statistics.
        out: The folder to write; it must not exist.
        how: `ensemble` or `soup`.
        weights: Share of each model in a soup; equal by default. They are scaled to sum to 1.
        allow_unscaled: Accept sources of unknown scale.
        report: Called with the number of images predicted and the total.

    Raises:
        ValueError: If the models do not fit together or the sources have no labeled validation
            images.
        FileExistsError: If `out` exists.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another folder for the combination")
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"the models are {', '.join(names)}; name at least two, each once")
    splits = [load_splits(ref, ("train", "validation")) for ref in sources]
    _require_usable(splits, allow_unscaled)
    loaded = [load_trained(name) for name in names]
    first = _require_same_input(names, loaded)
    accelerator = make_accelerator()
    classifiers = [each.classifier for each in loaded]
    mean, std = first.preprocessing.mean, first.preprocessing.std
    plain = first.rule.fit(None, mean, std)
    if how == "soup":
        combined = average_weights(classifiers, weights)
        _compute_statistics(combined, first, [train for train, _ in splits], plain, accelerator)
    else:
        combined = build_ensemble(classifiers)
    validation = [split for _, split in splits]
    labels = np.concatenate([split.labels for split in validation])
    tables = [load_images(first, split) for split in validation]
    found, total = [], (len(loaded) + 1) * len(labels)
    for number, classifier in enumerate((*classifiers, combined)):
        shown = report_after(report, number * len(labels), total)
        found.append(_logits(classifier, tables, plain, accelerator, shown))
    temperature, affine = fit_temperature_affine(found[-1], labels)
    calibrated = affine.scale * found[-1] + affine.bias.numpy()
    scores = [score(labels, logits.argmax(1))["macro_f1"] for logits in found]
    made = Combination(out, temperature, scores[-1], dict(zip(names, scores[:-1], strict=True)))
    exported = export_classifier(combined.cpu(), [affine])
    abstention = fit_abstention(calibrated, labels, temperature)
    facts = _facts(made, how, weights, [each.revision for each in loaded], validation)
    _save(out, exported, abstention, loaded, facts)
    return made


def _save(
    out: Path,
    exported: Classifier,
    abstention: Abstention,
    loaded: Sequence[PretrainedModel],
    facts: Mapping[str, Any],
) -> None:
    """Write the model folder, and how it was made, in one move."""
    first = loaded[0]
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(out) as part:
        save_classifier(
            exported,
            first.processor,
            part,
            notes=None if first.rule.is_plain else {"rule": first.rule.to_dict()},
            exposure=_joint_exposure(loaded),
            abstention=abstention.to_dict(),
        )
        write_json(part / COMBINATION_FILE, facts)


def _logits(
    classifier: Classifier,
    tables: Sequence[Table],
    preprocessing: ImagePreprocessing,
    accelerator: "Accelerator",
    report: Report,
) -> NDArray[np.float32]:
    """Return the logits (N, 11) of the images of all tables; `report` gets the number done."""
    classifier.to(accelerator.device)
    found: list[NDArray[np.float32]] = []
    for table in tables:
        shown = report_after(report, sum(map(len, found)), 0)
        found.append(predict(classifier, table, preprocessing, accelerator, report=shown).logits)
    return np.concatenate(found)


@torch.no_grad()
def average_weights(members: Sequence[Classifier], weights: Sequence[float] = ()) -> Classifier:
    """Return a classifier whose weights are the weighted mean of the members' weights.

    Args:
        members: Exported classifiers of one architecture; they do not change.
        weights: Share of each; equal by default. They are scaled to sum to 1.

    Raises:
        ValueError: If the architectures differ, or a weight is missing or negative.
    """
    if len(members) < 2:
        raise ValueError(f"a soup of {len(members)} model; name at least two")
    shares = np.array(weights or [1.0] * len(members), float)
    usable = np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0
    if len(shares) != len(members) or not usable:
        raise ValueError(
            f"weights are {', '.join(map(str, weights))} for {len(members)} models; give one "
            "number for each, none negative and not all 0"
        )
    states = [member.state_dict() for member in members]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(each != shapes[0] for each in shapes):
        raise ValueError(
            "the models have different architectures, so their weights cannot be averaged; "
            "combine them as an ensemble"
        )
    mean = copy.deepcopy(members[0])
    for name, tensor in mean.state_dict().items():
        if tensor.is_floating_point():
            parts = zip(shares / shares.sum(), states, strict=True)
            tensor.copy_(sum(float(share) * state[name].double() for share, state in parts))
    return mean.eval()


@torch.no_grad()
def _compute_statistics(
    classifier: Classifier,
    pretrained: PretrainedModel,
    splits: Sequence[DomainSplit],
    preprocessing: ImagePreprocessing,
    accelerator: "Accelerator",
) -> None:
    """Compute BatchNorm statistics again on training images, unless there is no BatchNorm."""
    if not batch_norms(classifier):
        return
    classifier.to(accelerator.device)
    reset_statistics(classifier)
    for split in splits:
        table = load_images(pretrained, split)
        num = min(len(table), NUM_FOR_STATISTICS // len(splits))
        rows = np.random.default_rng(0).permutation(len(table))[:num]
        for chosen in np.array_split(rows, max(1, num // BATCH)):
            pixels = table.batch(chosen).to(accelerator.device)
            batch_logits(classifier, preprocess(pixels, preprocessing))
    classifier.eval()


def _require_usable(splits: Sequence[Sequence[DomainSplit]], allow_unscaled: bool) -> None:
    """Check the sources before any model is loaded."""
    if not splits:
        raise ValueError("no sources; name the datasets that the models were trained on")
    for train, validation in splits:
        require_scale([train], allow_unscaled)
        if not len(validation) or (validation.labels == UNLABELED).any():
            raise ValueError(
                f"{validation.ref} has no labeled validation images to calibrate with; name a "
                "dataset that the models were trained on"
            )


def _require_same_input(names: Sequence[str], loaded: Sequence[PretrainedModel]) -> PretrainedModel:
    """Return the first model; all must see the same pixels.

    Raises:
        ValueError: If a model preprocesses images otherwise, or measures each laboratory.
    """
    first = loaded[0]
    for name, each in zip(names, loaded, strict=True):
        if each.rule.needs_images:
            raise ValueError(
                f"{name} normalizes images by their laboratory, which a combination cannot; "
                "train it with --normalize-by checkpoint"
            )
        if (each.preprocessing, each.rule) != (first.preprocessing, first.rule):
            raise ValueError(
                f"{name} takes other images than {names[0]}: {each.preprocessing} against "
                f"{first.preprocessing}; train both with the same --image-size and normalization"
            )
    return first


def _joint_exposure(loaded: Sequence[PretrainedModel]) -> Exposure:
    """Return what the weights of any member have seen."""
    summary = "; ".join(dict.fromkeys(each.exposure for each in loaded))
    return Exposure(summary, tuple(dict.fromkeys(name for e in loaded for name in e.exposed_to)))


def _facts(
    made: Combination,
    how: How,
    weights: Sequence[float],
    revisions: Sequence[str],
    validation: Sequence[DomainSplit],
) -> dict[str, Any]:
    """Return how a combination was made, as JSON values."""
    return {
        "how": how,
        "members": [
            {"name": name, "revision": revision, "macro_f1": macro_f1}
            for (name, macro_f1), revision in zip(made.members.items(), revisions, strict=True)
        ],
        "weights": list(weights),
        "macro_f1": made.macro_f1,
        "temperature": made.temperature,
        "scored_on": {split.name: split.fingerprint for split in validation},
    }
