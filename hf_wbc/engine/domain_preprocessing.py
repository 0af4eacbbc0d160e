"""Image preprocessing of each domain, measured for training and reapplied at prediction.

Preprocessing that applies to all images in training must also apply at prediction. A plain
transformers `pipeline` on a run's `model/` does only what its image processor supports. If a run
does more, config.json of its model stores the preprocessing rule, and its record contains the
scores of the plain pipeline too. `hf-wbc evaluate` applies the rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.preprocessing import (
    ImagePreprocessing,
    PreprocessingRule,
    common_sharpness,
    pool_preprocessing,
)
from hf_wbc.data.table import Table
from hf_wbc.engine.features import load_images
from hf_wbc.models import Preprocessing, PretrainedModel, make_processor


@dataclass(frozen=True)
class DomainPreprocessing:
    """The preprocessing rule of a run, and the resulting parameters of each domain."""

    rule: PreprocessingRule
    by_domain: Mapping[str, ImagePreprocessing]
    preprocessing: Preprocessing
    """Settings of the processor saved with the model: all that a plain pipeline does."""

    @property
    def plain(self) -> ImagePreprocessing:
        """What a plain pipeline does to an image of any domain."""
        return ImagePreprocessing(self.preprocessing.mean, self.preprocessing.std)

    @property
    def processor(self) -> Any:
        """The image processor to save."""
        return make_processor(self.preprocessing)

    def facts(self) -> dict[str, Any]:
        """Return the preprocessing as JSON values, for the record and the model's config.json."""
        return {
            "rule": self.rule.to_dict(),
            "domains": {name: how.to_dict() for name, how in self.by_domain.items()},
            "pipeline": self.plain.to_dict(),
        }


def measure_preprocessing(
    config: TrainConfig,
    preprocessing: Preprocessing,
    sources: Mapping[str, Table],
    targets: Mapping[str, Table],
    held_out: Mapping[str, Table],
) -> DomainPreprocessing:
    """Measure the preprocessing of every domain on its training images, without labels.

    The rule is applied to held-out domains but not fitted on them. A saved processor stores a
    single mean and std: when normalizing by domain, those of the only target, or else of all
    sources and targets pooled.

    Args:
        config: The resolved configuration.
        preprocessing: Settings of the pre-trained model's processor.
        sources: Training images of each source.
        targets: Training images of each target.
        held_out: Training images of each held-out domain.
    """
    tables = {**sources, **targets}
    rule = PreprocessingRule(
        config.data.normalize_by, None, config.data.blur_um, config.eval.test_time_flips
    )
    if config.data.sharpness == "common":
        rule = replace(rule, sharpness_per_um=common_sharpness(list(tables.values())))
    by_domain = {
        name: rule.fit(table, preprocessing.mean, preprocessing.std)
        for name, table in {**tables, **held_out}.items()
    }
    if rule.normalize_by == "domain":
        only = list(targets) if len(targets) == 1 else list(tables)
        together = pool_preprocessing([by_domain[name] for name in only])
        preprocessing = replace(preprocessing, mean=together.mean, std=together.std)
    return DomainPreprocessing(rule, by_domain, preprocessing)


def preprocessing_for(
    pretrained: PretrainedModel, ref: str, test_time_flips: bool = False
) -> tuple[ImagePreprocessing, dict[str, Any]]:
    """Return a trained model's preprocessing of a dataset, and a summary for the record.

    If the model's rule requires it, the preprocessing is measured on the training split of the
    dataset, without labels. `test_time_flips` averages over mirrored images, whatever the rule is.
    """
    rule, preprocessing = pretrained.rule, pretrained.preprocessing
    measured: DomainSplit | None = load_split(ref, "train") if rule.needs_images else None
    table = load_images(pretrained, measured) if measured else None
    how = rule.fit(table, preprocessing.mean, preprocessing.std)
    how = replace(how, flips=how.flips or test_time_flips)
    facts = {"rule": rule.to_dict(), "treatment": how.to_dict()}
    if measured:
        facts["measured_on"] = {"split": measured.split, "fingerprint": measured.fingerprint}
    return how, facts


def describe(rule: PreprocessingRule, targets: Sequence[str]) -> str:
    """Describe the rule to users of the saved model in one or two sentences.

    Empty if a plain pipeline does the same.
    """
    if rule.is_plain:
        return ""
    parts = []
    if rule.normalize_by == "domain":
        whose = targets[0] if len(targets) == 1 else "all domains"
        parts.append(
            "normalized by the mean and std of their own domain (the saved processor has those of "
            f"{whose})"
        )
    if rule.sharpness_per_um is not None or rule.blur_um:
        parts.append("blurred (which image processors do not support)")
    remarks = [f"was trained on images {' and '.join(parts)}"] if parts else []
    if rule.flips:
        remarks.append("is scored by its mean prediction over mirrored images")
    return (
        f"model/ {' and '.join(remarks)}: `hf-wbc evaluate` does the same, a plain transformers "
        "pipeline does not; record.json contains the scores of both"
    )
