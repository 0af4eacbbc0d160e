"""How the images of each domain are treated before the model, and what is said of it to others.

Whatever is done to every image alike has to be done at prediction too. A plain transformers
`pipeline` on a run's `model/` does what its image processor can say and no more, so a run whose
images are treated further keeps the rule in the model's config.json, records what the pipeline
would score, and says so. `hf-wbc evaluate` obeys the rule.
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
    """The rule of a run and what it gives for each domain."""

    rule: PreprocessingRule
    by_domain: Mapping[str, ImagePreprocessing]
    preprocessing: Preprocessing
    """Of the processor that is saved with the model: all that a plain pipeline does."""

    @property
    def plain(self) -> ImagePreprocessing:
        """What a plain pipeline does to an image of any domain."""
        return ImagePreprocessing(self.preprocessing.mean, self.preprocessing.std)

    @property
    def processor(self) -> Any:
        """The image processor to save."""
        return make_processor(self.preprocessing)

    def facts(self) -> dict[str, Any]:
        """For the record and the model's config.json; plain JSON values."""
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
    """From the training images of every domain, without labels.

    Domains that are held out are treated by the rule, and have no say in it. By domain, a processor
    has room for one mean and std: the only target's, or where there is none or more than one, those
    of all domains together.
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
    pretrained: PretrainedModel, ref: str
) -> tuple[ImagePreprocessing, dict[str, Any]]:
    """How a trained model wants the images of a dataset, and the facts for the record.

    Measured on the dataset's training split, without labels, when the model's rule asks for it.
    """
    rule, preprocessing = pretrained.rule, pretrained.preprocessing
    measured: DomainSplit | None = load_split(ref, "train") if rule.needs_images else None
    table = load_images(pretrained, measured) if measured else None
    how = rule.fit(table, preprocessing.mean, preprocessing.std)
    facts = {"rule": rule.to_dict(), "treatment": how.to_dict()}
    if measured:
        facts["measured_on"] = {"split": measured.split, "fingerprint": measured.fingerprint}
    return how, facts


def describe(rule: PreprocessingRule, targets: Sequence[str]) -> str:
    """What a user of the saved model has to know, in a sentence or two; empty for a plain rule."""
    if rule.is_plain:
        return ""
    parts = []
    if rule.normalize_by == "domain":
        whose = targets[0] if len(targets) == 1 else "all domains together"
        parts.append(
            "normalised by their own domain's mean and std (the saved processor has those of "
            f"{whose})"
        )
    if rule.sharpness_per_um is not None or rule.blur_um:
        parts.append("blurred (which no processor does)")
    said = [f"was trained on images {' and '.join(parts)}"] if parts else []
    if rule.flips:
        said.append("is scored by its mean prediction of mirrored images")
    return (
        f"model/ {' and '.join(said)}: hf-wbc evaluate does the same, a plain transformers "
        "pipeline does not; record.json has the scores of both"
    )
