"""Exposure: which images the weights have seen, stored in a model's config.json across trainings.

Adaptation to a target exposes the weights to it, even without labels. A model that starts from such
weights has already seen that laboratory, and its score there is marked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hf_wbc.models.backbones import UNKNOWN, BackboneSpec

KEY = "hf_wbc_exposure"
"""Key in config.json; transformers ignores it."""


@dataclass(frozen=True)
class Exposure:
    """What is known about the images that weights were trained on."""

    said: str = UNKNOWN
    """A sentence, or "unknown", which is not the same as "nothing"."""
    exposed_to: tuple[str, ...] = ()
    """Sources whose images were, or may have been, seen; incomplete if `said` is unknown."""

    @classmethod
    def of(cls, config: Any, backbone: BackboneSpec | None) -> Self:
        """Return the exposure of a checkpoint, from its config or else from the known backbone.

        The entry is removed from the config.

        Raises:
            ValueError: If another version of hf_wbc wrote the entry.
        """
        note = vars(config).pop(KEY, None)
        if note is not None:
            return cls.from_dict(note)
        return cls(backbone.exposure, backbone.exposed_to) if backbone else cls()

    def after(self, labeled: Sequence[str], unlabeled: Sequence[str]) -> Self:
        """Return the exposure after training on, or selecting by, the named domains."""
        kinds = (("with labels", labeled), ("without labels", unlabeled))
        seen = [f"images of {', '.join(names)} {how}" for how, names in kinds if names]
        known = dict.fromkeys([*self.exposed_to, *labeled, *unlabeled])
        return type(self)(f"{' and '.join(seen)}; before that: {self.said}", tuple(known))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"said": self.said, "exposed_to": list(self.exposed_to)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore the exposure from `to_dict`.

        Raises:
            ValueError: If another version of hf_wbc wrote the values.
        """
        try:
            return cls(str(values["said"]), tuple(map(str, values["exposed_to"])))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{KEY} in config.json is {values!r}, which is not valid; "
                "use the hf_wbc that wrote the model"
            ) from error
