"""What every part of one run needs: its configuration, device, folder, data and model."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.table import Table
from hf_wbc.engine.domain_preprocessing import DomainPreprocessing, measure_preprocessing
from hf_wbc.engine.domains import DomainSet
from hf_wbc.engine.features import embed, load_images
from hf_wbc.engine.forward import Predictions, predict
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class RunContext:
    """The fixed surroundings of one run."""

    config: TrainConfig
    accelerator: "Accelerator"
    folder: RunFolder
    corpus: DomainSet
    loaded: PretrainedModel
    cache: Path
    """Where embedded features are kept."""
    _tables: dict[DomainSplit, Table] = field(default_factory=dict, repr=False)

    def table(self, domain: DomainSplit) -> Table:
        """A domain as the model takes it in: harmonised pixels, or embedded features."""
        if domain not in self._tables:
            self._tables[domain] = self._load(domain)
        return self._tables[domain]

    def embed_all(self) -> None:
        """Embed every domain, where features are asked for, before the model changes."""
        if self.config.model.inputs == "features":
            for splits in self.corpus.all:
                for domain in (splits.train, splits.validation, splits.test):
                    self.table(domain)

    def _load(self, domain: DomainSplit) -> Table:
        if self.config.model.inputs == "features":
            return embed(self.loaded, domain, self.cache, self.accelerator)
        with self.accelerator.main_process_first():
            return load_images(self.loaded, domain)

    @cached_property
    def treatments(self) -> DomainPreprocessing:
        """What every image of a domain gets, measured on its training images without labels."""
        corpus = self.corpus
        tables = (
            {splits.name: self.table(splits.train) for splits in side}
            for side in (corpus.sources, corpus.targets, corpus.held_out)
        )
        return measure_preprocessing(self.config, self.loaded.preprocessing, *tables)

    def predict(
        self,
        classifier: Classifier,
        domain: DomainSplit,
        treatment: ImagePreprocessing | None = None,
    ) -> Predictions:
        """A classifier's predictions for a whole domain, its images treated as in training."""
        table, treatment = self.table(domain), treatment or self.treatments.by_domain[domain.name]
        return predict(classifier, table, treatment, self.accelerator, self.config.optim.batch_size)
