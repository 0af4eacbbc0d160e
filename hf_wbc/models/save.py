"""Export a trained classifier as a plain transformers model, and save it with its processor.

The result does not require hf_wbc: `AutoModelForImageClassification.from_pretrained` and `pipeline`
load it.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from hf_wbc.models.classifier import Classifier
from hf_wbc.models.exposure import KEY, Exposure
from hf_wbc.models.freeze import merge_lora
from hf_wbc.models.utils import quiet_transformers
from hf_wbc.records import atomic_replace

NOTES = "hf_wbc_images"
"""Key in config.json for image preprocessing; transformers ignores it."""
ABSTENTION = "hf_wbc_abstention"
"""Key in config.json for temperature, conformal sets, reject option and review thresholds."""


class LogitAffine(NamedTuple):
    """An affine map of the logits, `scale * logits + bias`."""

    scale: float
    """For example, 1 / temperature."""
    bias: Tensor
    """One number per class (C,), for example the log ratio of target and source priors."""


def export_classifier(
    classifier: Classifier, logit_affines: Sequence[LogitAffine] = ()
) -> Classifier:
    """Return a merged copy of a trained classifier; the classifier itself does not change.

    LoRA updates are merged into the layers they adapt, and the bottleneck into the head, so the
    copy's `model` is a plain transformers model. The copy is in evaluation mode.

    Args:
        classifier: The trained classifier, with or without LoRA and a bottleneck.
        logit_affines: Affine maps to apply to the logits within the head, in this order; for
            example temperature scaling and prior correction.

    Returns:
        A new classifier without adapters or a bottleneck.

    Raises:
        ValueError: If merged LoRA weights are not finite.
    """
    exported = copy.deepcopy(classifier).to(memory_format=torch.contiguous_format).eval()
    merge_lora(exported)
    exported.merge_bottleneck()
    for scale, bias in logit_affines:
        exported.apply_logit_affine(scale, bias)
    return exported


def save_classifier(
    classifier: Classifier,
    processor: Any,
    folder: Path,
    notes: Mapping[str, Any] | None = None,
    exposure: Exposure | None = None,
    abstention: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json, replacing the folder.

    The files are written to a temporary folder first, so `folder` is always complete.

    Args:
        classifier: An exported classifier (see `export_classifier`).
        processor: The image processor to save with it.
        folder: The folder to write.
        notes: JSON values: image preprocessing that the processor cannot express.
        exposure: Which images the weights have seen.
        abstention: JSON values: how far to trust the predictions.

    Raises:
        OSError: If the weights cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(folder) as temporary:
        temporary.mkdir()
        config = vars(classifier.model.config)
        # With timm's own settings in the config, transformers would load timm's processor.
        config.pop("pretrained_cfg", None)
        seen = exposure.to_dict() if exposure else None
        for key, values in ((NOTES, notes), (KEY, seen), (ABSTENTION, abstention)):
            config.pop(key, None)
            if values is not None:
                config[key] = dict(values)
        with quiet_transformers():
            try:
                classifier.model.save_pretrained(temporary)
            except SafetensorError as error:
                raise OSError(f"{folder} cannot be written: {error}") from error
            processor.save_pretrained(temporary)
        for file in temporary.iterdir():  # safetensors files are readable by their owner only
            file.chmod((temporary / "config.json").stat().st_mode)
