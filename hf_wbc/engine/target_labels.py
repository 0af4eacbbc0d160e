"""Labels of target images that a run trains on: a third kind of data, beside source and target.

They come from a labels file of `hf-wbc label`. Only training images take part: labels of validation
images would make the unsupervised selection of weights look at images that were trained on, and
labels of test images are refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.labels_file import (
    FEWEST_NEW,
    Answer,
    match_names,
    read_answers,
    read_strategy,
    require_known,
)
from hf_wbc.data.reader_agreement import agreed_labels
from hf_wbc.engine.domains import Domain, DomainSet
from hf_wbc.records import digest
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED
from hf_wbc.text import shorten_list, with_spaces

__all__ = ["TargetLabels", "load_target_labels"]

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TargetLabels:
    """Labels of n training images of the target."""

    rows: Ids
    """Their rows in the target's training split (n,)."""
    labels: Ids
    """Class ids (n,)."""
    strategy: str
    """How the images were chosen; `unknown` if the labels file comes alone."""
    readers: tuple[str, ...]
    """Who labeled them."""
    digest: str
    """Digest of images and labels."""
    num_validation: int = 0
    """Labels of validation images, which are not trained on."""
    notes: tuple[str, ...] = ()
    """A sentence for each kind of label that was left out."""

    def facts(self) -> dict[str, Any]:
        """Return how many images were labeled, chosen how and by whom, as plain JSON values."""
        counts = np.bincount(self.labels, minlength=NUM_CLASSES).tolist()
        return {
            "num": len(self.rows),
            "num_per_class": {n: num for n, num in zip(NAMES, counts, strict=True) if num},
            "num_validation": self.num_validation,
            "strategy": self.strategy,
            "readers": list(self.readers),
            "digest": self.digest,
        }

    def hidden_from(self, split: DomainSplit) -> DomainSplit:
        """Return the target's training split without the labels that were trained on."""
        labels = split.labels.copy()
        labels[self.rows] = UNLABELED
        return replace(split, labels=labels)


def load_target_labels(
    config: TrainConfig, domain_set: DomainSet
) -> tuple[TrainConfig, TargetLabels | None]:
    """Load the labels that a configuration names.

    Args:
        config: The configuration; `data.target_labels` names the file.
        domain_set: Its domains.

    Returns:
        The configuration and the labels. Without any label, these are None, and the configuration
        is that of a run that was given no file.

    Raises:
        ValueError: If the file is damaged, is of another dataset or of test images, has fewer
            labels than the budget, or none that can be used.
    """
    data = config.data
    if data.target_labels is None or data.target_label_budget == 0:
        off = {"target_labels": None, "target_label_weight": 1.0, "target_label_budget": None}
        return config.replace(**off), None
    path = Path(data.target_labels)
    try:
        answers = read_answers(path)
    except FileNotFoundError:
        raise ValueError(
            f"target_labels: {path} does not exist; `hf-wbc label` writes it"
        ) from None
    (target,) = domain_set.targets
    known = {*target.train.image_ids, *target.validation.image_ids}
    tested = set(target.test.image_ids)
    answers = match_names(answers, known | tested)
    require_known([each.image_id for each in answers], known, tested, target.name)
    found = _usable(path, answers, target, domain_set.sources, data.target_label_budget)
    return config, found


def _usable(
    path: Path,
    answers: list[Answer],
    target: Domain,
    sources: Iterable[Domain],
    budget: int | None,
) -> TargetLabels:
    """Return the labels that can be trained on.

    Raises:
        ValueError: If there are none, or fewer than the budget.
    """
    agreed, conflicts = agreed_labels(answers)
    notes = []
    if conflicts:
        notes.append(f"labels left out, readers disagree: {shorten_list(conflicts)}")
    place = {image_id: row for row, image_id in enumerate(target.train.image_ids)}
    in_train = {image_id: label for image_id, label in agreed.items() if image_id in place}
    num_validation = len(agreed) - len(in_train)
    if num_validation:
        notes.append(
            f"{num_validation} labels are of validation images of {target.name}, which choose the "
            "weights and are not trained on"
        )
    if budget is not None and budget > len(in_train):
        raise ValueError(
            f"target_label_budget is {budget}, but {path} has {len(in_train)} labels of training "
            f"images of {target.name}; label more, or lower the budget"
        )
    chosen = list(in_train)[:budget]
    labels = np.array([in_train[image_id] for image_id in chosen], np.int64)
    is_usable, left_out = _possible(labels, sources)
    notes += left_out
    if not is_usable.any():
        raise ValueError(
            f"{path} has no label of a training image of {target.name} that can be trained on"
            + "".join(f"; {note}" for note in notes)
        )
    kept = [image_id for image_id, usable in zip(chosen, is_usable, strict=True) if usable]
    pairs = sorted((each.image_id, each.label) for each in answers if each.image_id in set(kept))
    readers = {each.reader for each in answers if each.image_id in set(kept) and each.reader}
    return TargetLabels(
        np.array([place[image_id] for image_id in kept], np.int64), labels[is_usable],
        read_strategy(path), tuple(sorted(readers)), digest({"labels": pairs}), num_validation,
        tuple(notes),
    )  # fmt: skip


def _possible(labels: Ids, sources: Iterable[Domain]) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which labels are of classes that a source has or enough labels open, and notes."""
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    in_sources = np.unique(np.concatenate([domain.train.labels for domain in sources]))
    is_possible = np.isin(np.arange(NUM_CLASSES), in_sources) | (counts >= FEWEST_NEW)
    notes = [
        f"{with_spaces(NAMES[c])} has {counts[c]} labels; the sources lack this class, and it "
        f"needs {FEWEST_NEW} to be predicted"
        for c in np.flatnonzero(~is_possible & (counts > 0))
    ]
    return is_possible[labels], notes
