"""The domains of a run, their roles, and the checks that they must pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_wbc.data.dataset import DomainSplit, load_splits
from hf_wbc.data.schema import SPLITS
from hf_wbc.evaluation.metrics import confusion_counts
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED

_PURPOSE = {"train": "training", "validation": "validation", "test": "test"}
"""Adjectives of the splits."""


@dataclass(frozen=True)
class Domain:
    """Training, validation and test images of one domain."""

    train: DomainSplit
    validation: DomainSplit
    test: DomainSplit

    @property
    def name(self) -> str:
        """Name of the domain."""
        return self.train.name

    def identity(self) -> dict[str, Any]:
        """Return what identifies the data, regardless of where it is stored."""
        return {
            "name": self.name,
            "revision": self.train.revision,
            **{split: getattr(self, split).fingerprint for split in SPLITS},
        }

    def facts(self) -> dict[str, Any]:
        """Return the identity with reference, image counts and scale, for the record."""
        return {
            **self.identity(),
            "ref": self.train.ref,
            "num_images": {split: len(getattr(self, split)) for split in SPLITS},
            "um_per_px": self.train.um_per_px,
        }


@dataclass(frozen=True)
class DomainSet:
    """The domains of a run by role: labeled sources, unlabeled targets and held-out domains."""

    sources: tuple[Domain, ...]
    targets: tuple[Domain, ...]
    held_out: tuple[Domain, ...] = ()
    """Labeled domains used for model selection, not for training."""

    @property
    def all(self) -> tuple[Domain, ...]:
        """All domains: sources, targets, held-out domains."""
        return (*self.sources, *self.targets, *self.held_out)

    def notes(self) -> list[str]:
        """Return one sentence for each fact about the images that weakens the scores."""
        found = []
        for domain in self.all:
            for split in SPLITS:
                if not len(getattr(domain, split)):
                    found.append(f"{domain.name} has no {_PURPOSE[split]} images")
        for domain in self.sources:
            counts = np.bincount(domain.train.labels, minlength=NUM_CLASSES)
            if (counts == 1).any():
                single = ", ".join(NAMES[i] for i in np.flatnonzero(counts == 1))
                found.append(
                    f"{domain.name} has a single training image of {single}; balanced sampling "
                    "repeats it"
                )
        return found

    def scored(self) -> Iterator[tuple[str, Domain, DomainSplit]]:
        """Yield role, domain and split of everything that is scored at the end of a run."""
        for splits in self.sources:
            yield "source", splits, splits.validation
            yield "source", splits, splits.test
        for splits in self.targets:
            yield "target", splits, splits.test
        for splits in self.held_out:
            yield "held out", splits, splits.test


def load_domain(ref: str) -> Domain:
    """Load all splits of a prepared folder or a Hub dataset."""
    return Domain(*load_splits(ref))


def require_scale(domains: Sequence[DomainSplit], allow_unscaled: bool) -> None:
    """Require that the scale of every domain is known, unless `allow_unscaled`.

    Raises:
        ValueError: If the scale of a domain is unknown.
    """
    for domain in domains:
        if domain.um_per_px is None and not allow_unscaled:
            raise ValueError(
                f"{domain.ref} has no scale (um_per_px is null): its cells fill the frame, and "
                "25 um cannot be cropped; use --allow-unscaled to accept it"
            )


def load_domains(
    sources: Sequence[str],
    target: Sequence[str] = (),
    held_out: Sequence[str] = (),
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    oracle: bool = False,
    allow_unscaled: bool = False,
) -> DomainSet:
    """Load domains by reference and check them against each other.

    Args:
        sources: Labeled domains: prepared folders or Hub datasets.
        target: Unlabeled domains.
        held_out: Labeled domains that are not trained on.
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if empty, those present.
        oracle: Require labels on the targets' validation images.
        allow_unscaled: Accept domains of unknown scale.

    Raises:
        ValueError: If a source lacks labels or training images, a domain has no scale or is named
            twice, two domains share an image, or `merge` and `classes` leave nothing to score in a
            domain.
    """
    domain_set = DomainSet(
        *(tuple(load_domain(ref) for ref in refs) for refs in (sources, target, held_out))
    )
    names: dict[str, str] = {}
    for splits in domain_set.all:
        if splits.name in names:
            raise ValueError(
                f"{names[splits.name]} and {splits.train.ref} are both {splits.name!r}; "
                "name each domain once among --sources, --target and --held-out"
            )
        names[splits.name] = splits.train.ref
    require_scale([splits.train for splits in domain_set.all], allow_unscaled)
    for splits in (*domain_set.sources, *domain_set.held_out):
        _require_labels(splits)
    for splits in domain_set.sources:
        if not len(splits.train):
            raise ValueError(
                f"{splits.train.ref} has no training images; leave it out, or name it as --held-out"
            )
    _require_apart(domain_set)
    if oracle:
        for splits in domain_set.targets:
            if (splits.validation.labels == UNLABELED).all():
                raise ValueError(
                    f"{splits.train.ref} has no labeled validation images for --oracle; "
                    "leave it out"
                )
    for _, _, domain in domain_set.scored():
        require_scorable(domain, merge, classes)
    return domain_set


def _require_labels(splits: Domain) -> None:
    for domain in (splits.train, splits.validation):
        if num_missing := int((domain.labels == UNLABELED).sum()):
            raise ValueError(
                f"{domain.ref} has {num_missing} unlabeled images, but sources need labels; "
                "name it as --target"
            )


def _require_apart(domain_set: DomainSet) -> None:
    """Raise a ValueError if two domains share an image, regardless of the split.

    Images are the same if their stated pixels or their bytes are.
    """
    seen: dict[str | bytes, tuple[str, str]] = {}
    for splits in domain_set.all:
        mine: dict[str | bytes, tuple[str, str]] = {}
        shared = []
        for domain in (splits.train, splits.validation, splits.test):
            hashes = domain.dataset.with_format(None)["pixel_sha256"][:]
            for stated, read, image_id in zip(
                hashes, domain.bytes_sha256, domain.image_ids, strict=True
            ):
                if other_place := seen.get(stated) or seen.get(read):
                    shared.append((image_id, *other_place))
                mine[stated] = mine[read] = (splits.train.ref, image_id)
        if shared:
            image_id, other, other_id = shared[0]
            raise ValueError(
                f"{splits.train.ref} and {other} share {len(shared)} images, such as "
                f"{image_id} and {other_id}; scores would not be valid: omit one of them"
            )
        seen |= mine


def require_scorable(domain: DomainSplit, merge: Sequence[str], classes: Sequence[str]) -> None:
    """Require that merging and selecting classes leaves some labels of a domain to score.

    Raises:
        ValueError: If a class does not exist, or no label is left.
    """
    if (domain.labels != UNLABELED).any():
        try:
            confusion_counts(domain.labels, domain.labels, merge=merge, classes=classes)
        except ValueError as error:
            raise ValueError(f"{domain.ref}, {domain.split}: {error}") from error
