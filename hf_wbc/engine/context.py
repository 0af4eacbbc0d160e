"""Shared state of a run: its configuration, device, folder, data and model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.table import Table
from hf_wbc.engine.domain_preprocessing import DomainPreprocessing, measure_preprocessing
from hf_wbc.engine.domains import DomainSet
from hf_wbc.engine.feature_extraction import FeatureViews
from hf_wbc.engine.features import embed, feature_views, load_images, require_features
from hf_wbc.engine.forward import Predictions, predict, without_progress_bars
from hf_wbc.engine.target_labels import TargetLabels
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["OnStage", "RunContext"]

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of items done, and the total."""


@dataclass(frozen=True)
class RunContext:
    """Configuration, device, folder, data and model of a run; none of them is replaced."""

    config: TrainConfig
    """The resolved configuration."""
    accelerator: "Accelerator"
    folder: RunFolder
    domain_set: DomainSet
    pretrained: PretrainedModel
    cache: Path
    """Folder for extracted features."""
    on_stage: OnStage = lambda stage, done, total: None
    """Called with the progress of everything but training steps."""
    target_labels: TargetLabels | None = None
    """Labels of target images that the run trains on."""
    _tables: dict[tuple[DomainSplit, bool], Table] = field(default_factory=dict, repr=False)

    def table(self, split: DomainSplit, *, for_training: bool = False) -> Table:
        """Return the model inputs of a split: cached pixels or extracted features.

        Args:
            split: The images.
            for_training: Return augmented views of the features, if the run trains on them.
        """
        views = feature_views(self.config) if for_training else None
        key = (split, views is not None)
        if key not in self._tables:
            self._tables[key] = self._load(split, views)
        return self._tables[key]

    @cached_property
    def labeled_table(self) -> Table | None:
        """Model inputs of the target images whose labels the run trains on; None without any."""
        if self.target_labels is None:
            return None
        (target,) = self.domain_set.targets
        table = self.table(target.train, for_training=True)
        return table.take(self.target_labels.rows, self.target_labels.labels)

    def embed_all(self) -> None:
        """Extract the features of every split before the model changes.

        Does nothing if the run trains on images.
        """
        if self.config.model.inputs == "features":
            for domain in self.domain_set.all:
                for split in (domain.train, domain.validation, domain.test):
                    self.table(split)
            for domain in (*self.domain_set.sources, *self.domain_set.targets):
                self.table(domain.train, for_training=True)

    def _load(self, split: DomainSplit, views: FeatureViews | None) -> Table:
        runtime = self.config.model.feature_runtime
        name = f"{split.name} {split.split}"
        if runtime is not None:
            return require_features(self.pretrained, split, self.cache, runtime, views)
        if self.config.model.inputs == "features":
            report = partial(self.on_stage, f"embed {name}" + (" for training" if views else ""))
            return embed(self.pretrained, split, self.cache, self.accelerator, report, views=views)
        with self.accelerator.main_process_first():
            return load_images(self.pretrained, split, partial(self.on_stage, f"read {name}"))

    @cached_property
    def preprocessing(self) -> DomainPreprocessing:
        """Image preprocessing of each domain, measured on its training images without labels."""
        domain_set = self.domain_set
        tables = (
            {domain.name: self.table(domain.train) for domain in role}
            for role in (domain_set.sources, domain_set.targets, domain_set.held_out)
        )
        return measure_preprocessing(self.config, self.pretrained.preprocessing, *tables)

    def predict(
        self,
        classifier: Classifier,
        split: DomainSplit,
        preprocessing: ImagePreprocessing | None = None,
        stage: str = "",
    ) -> Predictions:
        """Predict a whole split.

        Args:
            classifier: The classifier to use.
            split: The images.
            preprocessing: Preprocessing of the images; None is the same as in training.
            stage: Name under which `on_stage` gets the progress; empty reports none.

        Returns:
            Logits and features, identical on every process.
        """
        how = preprocessing or self.preprocessing.by_domain[split.name]
        name = f"{stage} {split.name} {split.split}"
        return predict(
            classifier,
            self.table(split),
            how,
            self.accelerator,
            self.config.optim.batch_size,
            partial(self.on_stage, name) if stage else without_progress_bars,
        )
