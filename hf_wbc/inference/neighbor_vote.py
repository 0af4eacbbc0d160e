"""Name cells by the vote of their nearest reference cells instead of the model's head.

The vote is that of Wu et al. 2018 (arXiv:1805.01978) and Caron et al. 2021 (arXiv:2104.14294): of
the K reference cells with the highest cosine similarity to a cell's features, each votes for its
class with the weight exp(similarity / 0.07). Classes count equally: a weight is divided by the
number of reference cells of its class, or by K if there are fewer, so that one odd cell of a small
class cannot outvote all other neighbors.

The vote is not linear in the features, so it is no head of a transformers model: it is computed
beside the saved model, from its reference set (`hf_wbc.inference.gallery`). The model's
calibration, conformal sets and reject option belong to its head and do not apply.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.dataset import DomainSplit
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.gallery import Gallery, ReferenceSet
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = ["NeighborVote", "describe_vote", "make_vote"]

TEMPERATURE = 0.07
LEAST = 1e-6
"""Probability of a class without a vote, because its logit has to be finite."""
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class NeighborVote:
    """The vote of the nearest reference cells."""

    gallery: Gallery
    """The reference cells."""
    num_neighbors: int
    """Number of reference cells that vote for each cell."""

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logarithm of each class's share of the votes (N, 11), for features (N, d)."""
        labels, k = self.gallery.labels, self.num_neighbors
        class_weights = 1 / np.maximum(np.bincount(labels, minlength=NUM_CLASSES), k)
        logits = np.empty((len(features), NUM_CLASSES), np.float32)
        for start in range(0, len(features), _ROWS_AT_ONCE):
            rows = unit_rows(features[start : start + _ROWS_AT_ONCE])
            similarity = (rows @ self.gallery.features.T).astype(np.float64)
            nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            closeness = np.take_along_axis(similarity, nearest, axis=1)
            weights = np.exp((closeness - closeness.max(1, keepdims=True)) / TEMPERATURE)
            votes = np.zeros((len(rows), NUM_CLASSES))
            voted = labels[nearest]
            np.add.at(votes, (np.arange(len(rows))[:, None], voted), weights * class_weights[voted])
            shares = votes / votes.sum(1, keepdims=True)
            logits[start : start + len(rows)] = np.log(np.maximum(shares, LEAST))
        return logits

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the vote, as plain JSON values."""
        gallery = self.gallery
        counts = Counter(zip(gallery.sources, gallery.labels.tolist(), strict=True))
        cells = hashlib.sha256(gallery.features.tobytes() + gallery.labels.tobytes())
        return {
            "num_neighbors": self.num_neighbors,
            "temperature": TEMPERATURE,
            "num_cells": len(gallery.labels),
            "per_class": max(counts.values()),
            "sources": sorted(set(gallery.sources)),
            "sha256": cells.hexdigest(),
        }

    def require_other_cells(self, domains: Sequence[DomainSplit]) -> None:
        """Check that no cell to score is a reference cell, which would name itself.

        Raises:
            ValueError: If one is; the message names its split.
        """
        known = set(zip(self.gallery.sources, self.gallery.image_ids, strict=True))
        for domain in domains:
            num = sum((domain.name, each) in known for each in domain.image_ids)
            if num:
                raise ValueError(
                    f"{num:,} of the {len(domain):,} cells in {domain.name}, {domain.split}, are "
                    "reference cells of the model and would name themselves; leave this split out"
                )


def make_vote(model: str, reference_set: ReferenceSet, num_neighbors: int) -> NeighborVote:
    """Return the vote of a model's reference cells.

    Args:
        model: The model, as it is named in messages.
        reference_set: The model's reference set.
        num_neighbors: Number of reference cells that vote for each cell.

    Raises:
        ValueError: If there are no reference cells, or fewer than the number of neighbors, or the
            number is below 1.
    """
    if num_neighbors < 1:
        raise ValueError(f"the number of neighbors is {num_neighbors}; it must be at least 1")
    gallery = reference_set.gallery
    if gallery is None:
        raise ValueError(
            f"{model} has no reference cells that could vote; build its reference set with "
            f"`hf-wbc reference {model} DATASETS`"
        )
    if num_neighbors > (num := len(gallery.labels)):
        raise ValueError(
            f"{num_neighbors} neighbors are asked for, but {model} has {num} reference cells; ask "
            "for fewer, or build a larger set with `hf-wbc reference --per-class`"
        )
    return NeighborVote(gallery, num_neighbors)


def describe_vote(facts: Mapping[str, Any]) -> str:
    """Describe a vote in one line, from its facts in a record."""
    sources = ", ".join(facts["sources"])
    return (
        f"named by the {facts['num_neighbors']} nearest of {facts['num_cells']:,} reference cells "
        f"of {sources}, not by the model's head"
    )
