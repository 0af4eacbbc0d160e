"""Load a classifier of the eleven classes: a ready name, a model of the Hub, or a folder.

What is drawn at random here (a new head, fresh weights) comes from the given seed; the global
generators stay as they were. Whatever is loaded runs one image of noise before it is handed out.

The labels in a transformers configuration: those of the eleven classes, in their order.

Give a pre-trained model another input size: its position embeddings are interpolated once.

Bicubic, by the family's own rule (Dosovitskiy et al. 2021, arXiv:2010.11929, sec. 3.2)."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_wbc.data.preprocessing import PLAIN, PreprocessingRule
from hf_wbc.models.backbones import FROM_SCRATCH, find_backbone
from hf_wbc.models.classifier import Classifier
from hf_wbc.models.exposure import KEY, Exposure
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


def labels_of(config: Any) -> tuple[str, ...]:
    """Its labels by class id."""
    return tuple(config.id2label[index] for index in sorted(config.id2label))


def set_labels(config: Any) -> None:
    """Give it the eleven, both ways round."""
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {label: index for index, label in enumerate(NAMES)}
    if hasattr(config, "label_names"):  # timm's own list, which would outlive ours when saved
        config.label_names = list(NAMES)


def require_labels(name: str, labels: tuple[str, ...]) -> None:
    """ValueError with every difference, unless the labels are the eleven in their order."""
    if labels == NAMES:
        return
    parts = []
    if lacking := [label for label in NAMES if label not in labels]:
        parts.append(f"lacks {', '.join(lacking)}")
    if foreign := [label for label in labels if label not in NAMES]:
        rest = len(foreign) - _NUM_SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        parts.append(f"knows {', '.join(foreign[:_NUM_SHOWN])}{more}")
    if not parts:
        parts.append(f"has them in another order ({', '.join(labels)})")
    raise ValueError(
        f"{name} is no model of the eleven classes: it {'; it '.join(parts)}. "
        f"Train one from it with --model {name}"
    )


def resize_model(model: Any, image_size: int) -> Any:
    """The same weights for images of that size; families that take any size come back as they are.

    ValueError when a weight's shape depends on the size in another way than as position embeddings.
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
            f"shape; leave --image-size out for the checkpoint's own {model.config.image_size}"
        )
    positions: Tensor = owner.interpolate_pos_encoding(weight, image_size, image_size)
    return positions.detach().clone()


HEAD_STD = 0.02
"""Standard deviation of a new head's weights; its bias is zero."""


@dataclass(frozen=True)
class PretrainedModel:
    """A classifier and what goes with it."""

    classifier: Classifier
    processor: Any
    """The image processor that prepares its images and is saved with it."""
    revision: str
    """Which weights these are: the Hub's commit, or a digest of a folder or of configuration."""
    exposure: str
    """What these weights have seen, in a sentence, or "unknown"."""
    rule: PreprocessingRule = PLAIN
    """How the images that these weights were trained on were treated, beyond the processor."""
    exposed_to: tuple[str, ...] = ()
    """Sources whose images these weights have seen, or may have."""
    abstention: Mapping[str, Any] | None = None
    """What it was saved with: temperature, conformal sets, reject option, review thresholds."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Size, interpolation, mean and std of the processor."""
        return preprocessing_of(self.processor)


def load_classifier(
    name: str, *, fresh: bool = False, image_size: int | None = None, seed: int = 0
) -> PretrainedModel:
    """A classifier of the eleven classes, in evaluation mode, fp32, on the CPU.

    `name` is a ready name, `org/name[@revision]` or a folder; `fresh` takes its configuration
    alone. A checkpoint whose labels are the eleven, in their order, keeps its head; any other gets
    a new one. ValueError says what is wrong with the name, the files, the family or the size.
    """
    ready = find_backbone(name)
    if ready and fresh:
        from transformers import AutoConfig

        return _fresh(name, AutoConfig.for_model(**ready.config), None, image_size, seed)
    checkpoint = fetch_checkpoint(ready.hub_id if ready else name, weights=not fresh)
    config = checkpoint.config()
    if fresh:
        known = checkpoint.preprocessing() if checkpoint.has_processor else None
        return _fresh(name, config, known, image_size, seed)
    return _pretrained(name, checkpoint, config, image_size, seed)


def load_trained(name: str) -> PretrainedModel:
    """A classifier that was trained on the eleven classes: a folder or a Hub model.

    ValueError when its labels are not the eleven in their order; it names the differences.
    """
    if find_backbone(name):
        raise ValueError(
            f"{name} is a backbone that knows none of the eleven classes; train it first, and give "
            "the run's model folder, such as runs/RUN/model"
        )
    checkpoint = fetch_checkpoint(name)
    config = checkpoint.config()
    require_labels(name, labels_of(config))
    return _pretrained(name, checkpoint, config, None, 0)


def _pretrained(
    name: str, checkpoint: CheckpointFiles, config: Any, image_size: int | None, seed: int
) -> PretrainedModel:
    preprocessing = checkpoint.preprocessing()
    notes = vars(config).pop(NOTES, None)
    abstention = vars(config).pop(ABSTENTION, None)
    rule = PreprocessingRule.from_dict(notes["rule"]) if notes else PLAIN
    seen = Exposure.of(config, checkpoint.ready)
    known = labels_of(config) == NAMES
    set_labels(config)
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
    _try_out(name, classifier, preprocessing.size)
    if missing:
        raise ValueError(
            f"{name} lacks weights of {type(model).__name__}: {', '.join(sorted(missing)[:5])} "
            f"({len(missing)} in all); give a whole checkpoint, or --fresh for random weights"
        )
    processor = make_processor(preprocessing)
    revision = checkpoint.revision
    return PretrainedModel(
        classifier, processor, revision, seen.said, rule, seen.exposed_to, abstention
    )


def _fresh(
    name: str, config: Any, known: Preprocessing | None, image_size: int | None, seed: int
) -> PretrainedModel:
    from transformers import AutoModelForImageClassification

    size = image_size or (known and known.size) or getattr(config, "image_size", None)
    if not isinstance(size, int):
        raise ValueError(f"{name} does not say its input's size; give --image-size")
    if hasattr(config, "image_size"):
        config.image_size = size
    set_labels(config)
    with seeded_rng(seed), quiet_transformers():
        try:
            model = AutoModelForImageClassification.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        except (ImportError, ValueError) as error:
            raise ValueError(f"{name} cannot be built: {error}") from error
    classifier = Classifier(model)
    _try_out(name, classifier, size)
    preprocessing = replace(known or Preprocessing(size), size=size)
    revision = f"fresh:{_digest(config, preprocessing, seed)}"
    return PretrainedModel(classifier, make_processor(preprocessing), revision, FROM_SCRATCH)


def _read_weights(name: str, folder: Path, config: Any) -> tuple[Any, set[str]]:
    """The model, and the names of the weights that its files lack or hold in another shape."""
    from safetensors import SafetensorError
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
    except (ImportError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(f"{name} does not load as an image classifier: {error}") from error
    return model, set(report["missing_keys"]) | {key for key, *_ in report["mismatched_keys"]}


def _try_out(name: str, classifier: Classifier, size: int) -> None:
    """One image of noise; ValueError unless features are (1, d) and the head gives the logits."""
    patch = getattr(classifier.model.config, "patch_size", None)
    if isinstance(patch, int) and size % patch:
        raise ValueError(f"{name}: image size {size} is no multiple of its patches' {patch} px")
    classifier.eval()
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            features, logits = classifier(noise)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot take images of {size} px: {error}") from error
    if features.ndim != 2 or not torch.allclose(classifier.head(features), logits, atol=1e-4):
        raise ValueError(
            f"{name}: its logits are not its last linear layer's; choose another model"
        )


def _digest(config: Any, preprocessing: Preprocessing, seed: int) -> str:
    facts = config.to_dict()
    for key in ("transformers_version", "_name_or_path", NOTES, KEY, ABSTENTION):
        facts.pop(key, None)
    text = json.dumps([facts, asdict(preprocessing), seed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
