"""Several classifiers as one network: their features side by side under one linear head.

The ensemble's logits are the mean of its members' logits, which are calibrated when they are saved;
its probabilities are the normalized geometric mean of theirs. A mean of probabilities would need a
second kind of head; this one stays linear, so every runtime, reference set, conformal set and later
calibration treats the ensemble like any other model. A class that some members have never seen is
averaged over the others.

transformers loads an ensemble with `AutoModelForImageClassification` once this module is imported,
because the architecture is registered here.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput

from hf_wbc.models.classifier import ABSENT_BIAS, Classifier
from hf_wbc.models.pretrained import ENSEMBLE

__all__ = ["EnsembleConfig", "EnsembleForImageClassification", "build_ensemble"]


class EnsembleConfig(PreTrainedConfig):  # type: ignore[misc]  # untyped
    """Configuration of an ensemble: those of its members, and the width of all features."""

    model_type = ENSEMBLE

    def __init__(
        self, members: Sequence[Mapping[str, Any]] = (), num_features: int = 1, **fields: Any
    ) -> None:
        self.members = [dict(member) for member in members]
        self.num_features = num_features
        super().__init__(**fields)


class EnsembleForImageClassification(PreTrainedModel):  # type: ignore[misc]  # untyped
    """Runs every member up to its head, and one head on all features."""

    config_class = EnsembleConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__(config)
        self.members = nn.ModuleList(map(_headless, config.members))
        self.classifier = nn.Linear(config.num_features, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initial weights that the members' own classes drew."""

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Compute logits (B, C) of images (B, 3, H, W)."""
        features = [member(pixel_values=pixel_values).logits for member in self.members]
        return ImageClassifierOutput(logits=self.classifier(torch.cat(features, dim=1)))


def _headless(config: Mapping[str, Any]) -> nn.Module:
    """Build a member from its configuration, with an identity in the place of its head."""
    member = AutoModelForImageClassification.from_config(
        CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    )
    return _without_head(Classifier(member))


def _without_head(classifier: Classifier) -> nn.Module:
    """Replace the head of a classifier's model by an identity, and return the model."""
    model: nn.Module = classifier.model
    model.set_submodule(classifier.head_name, nn.Identity())
    return model


@torch.no_grad()
def build_ensemble(members: Sequence[Classifier]) -> Classifier:
    """Return the ensemble of trained classifiers as one classifier in evaluation mode.

    Args:
        members: Exported classifiers of the same classes; they do not change.

    Raises:
        ValueError: If there are fewer than two.
    """
    if len(members) < 2:
        raise ValueError(f"an ensemble of {len(members)} model; name at least two")
    heads = [member.head for member in members]
    present = torch.stack([head.bias > ABSENT_BIAS / 2 for head in heads])
    shares = present / present.sum(0).clamp(min=1)
    bias = (shares * torch.stack([head.bias for head in heads])).sum(0)
    first = members[0].model.config
    config = EnsembleConfig(
        [member.model.config.to_dict() for member in members],
        num_features=sum(head.in_features for head in heads),
        id2label=first.id2label,
        label2id=first.label2id,
    )
    model = EnsembleForImageClassification(config)
    for own, member in zip(model.members, members, strict=True):
        own.load_state_dict(_without_head(copy.deepcopy(member)).state_dict())
    weights = [head.weight * share[:, None] for head, share in zip(heads, shares, strict=True)]
    model.classifier.weight.copy_(torch.cat(weights, dim=1))
    model.classifier.bias.copy_(torch.where(present.any(0), bias, ABSENT_BIAS))
    return Classifier(model).eval()


AutoConfig.register(EnsembleConfig.model_type, EnsembleConfig)
AutoModelForImageClassification.register(EnsembleConfig, EnsembleForImageClassification)
