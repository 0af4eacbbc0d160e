"""What a saved model knows of its own doubt.

An `Abstention` is fitted on the sources' validation images, with the logits of the model as it is
saved, and stands in its config.json. Those images have also chosen the weights and the temperature,
so that even for the source it is the coverage on its test images that counts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from hf_wbc.evaluation.conformal import ConformalSets, conformal_sets
from hf_wbc.evaluation.reject import Rejection, rejection
from hf_wbc.evaluation.review import Review, review
from hf_wbc.taxonomy import CLASSES, class_id

ALPHA = 0.1
REJECTED = 0.05
RECALL = 0.95
GUARANTEE = (
    "coverage, rejection and recall are promised for images exchangeable with the sources' "
    "validation images alone; another laboratory's are not: look at what they are there"
)
WANTED = {
    "myeloblast": (class_id("myeloblast"),),
    "immature": tuple(i for i, cell in enumerate(CLASSES) if (cell.maturation or 9) <= 4),
}
"""What a reviewer must not miss: blasts, and every granulocyte younger than a band."""


@dataclass(frozen=True)
class Abstention:
    """Temperature, conformal sets, a reject option and review thresholds of one saved model."""

    temperature: float
    """By which the logits were divided before the model was saved. It lies in the head: whoever
    loads the model must not divide again."""
    sets: Mapping[str, ConformalSets]
    """By kind; of `label_shift` there is one for each target, named `label_shift/TARGET`."""
    rejection: Rejection
    reviews: Mapping[str, Review]
    """By what is not to be missed."""
    num_images: tuple[int, ...]
    """Validation images of the sources, by class (C,)."""

    @property
    def within_class(self) -> ConformalSets:
        """Those that hold within each class, and so for any shares of them: for whoever asks."""
        return self.sets["class"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for config.json and the record."""
        return {
            "temperature": self.temperature,
            "sets": {kind: sets.to_dict() for kind, sets in self.sets.items()},
            "rejection": asdict(self.rejection),
            "reviews": {
                name: {**asdict(found), "wanted": list(found.wanted)}
                for name, found in self.reviews.items()
            },
            "num_images": list(self.num_images),
            "guarantee": GUARANTEE,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; ValueError for what another version has written."""
        try:
            return cls(
                temperature=values["temperature"],
                sets={name: ConformalSets.from_dict(v) for name, v in values["sets"].items()},
                rejection=Rejection(**values["rejection"]),
                reviews={
                    name: Review(**{**found, "wanted": tuple(found["wanted"])})
                    for name, found in values["reviews"].items()
                },
                num_images=tuple(values["num_images"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"what the model says of its doubt is damaged or of another version ({error!r}); "
                "train it again, or use the hf_wbc that wrote it"
            ) from error


def fit_abstention(
    logits: ArrayLike,
    labels: ArrayLike,
    temperature: float,
    priors: Mapping[str, ArrayLike] | None = None,
) -> Abstention:
    """From the saved model's logits (N, 11) and labels (N,) of the sources' validation images.

    `priors` (11,) are those of each target, estimated without labels.
    """
    sets = {
        kind: conformal_sets(logits, labels, alpha=ALPHA, kind=kind)
        for kind in ("marginal", "class")
    }
    for name, shares in (priors or {}).items():
        sets[f"label_shift/{name}"] = conformal_sets(
            logits, labels, alpha=ALPHA, kind="label_shift", priors=shares
        )
    return Abstention(
        temperature=temperature,
        sets=sets,
        rejection=rejection(logits, REJECTED),
        reviews={name: review(logits, labels, ids, RECALL) for name, ids in WANTED.items()},
        num_images=tuple(np.bincount(np.asarray(labels), minlength=np.shape(logits)[1]).tolist()),
    )
