"""What weights have seen, carried in a model's config.json from one training to the next.

A target that was adapted to has been seen, if without its labels: a model that starts from such a
run does not meet that laboratory for the first time, and its score there is marked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hf_wbc.models.backbones import UNKNOWN, BackboneSpec

KEY = "hf_wbc_exposure"
"""Key in config.json; transformers passes it over."""


@dataclass(frozen=True)
class Exposure:
    """What is known of the images that weights were trained on."""

    said: str = UNKNOWN
    """In a sentence, or "unknown", which is not "nothing"."""
    exposed_to: tuple[str, ...] = ()
    """Sources whose images were seen, or may have been; where `said` is unknown, others too."""

    @classmethod
    def of(cls, config: Any, ready: BackboneSpec | None) -> Self:
        """Of a checkpoint: what its own config says, else what is known of its name.

        The note is taken out of the config. ValueError for one that another version wrote.
        """
        note = vars(config).pop(KEY, None)
        if note is not None:
            return cls.from_dict(note)
        return cls(ready.exposure, ready.exposed_to) if ready else cls()

    def after(self, labelled: Sequence[str], unlabelled: Sequence[str]) -> Self:
        """Of these weights once trained on, or chosen by, domains of these names."""
        kinds = (("with labels", labelled), ("without labels", unlabelled))
        seen = [f"images of {', '.join(names)} {how}" for how, names in kinds if names]
        known = dict.fromkeys([*self.exposed_to, *labelled, *unlabelled])
        return type(self)(f"{' and '.join(seen)}; before that: {self.said}", tuple(known))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"said": self.said, "exposed_to": list(self.exposed_to)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; ValueError for what another version wrote."""
        try:
            return cls(str(values["said"]), tuple(map(str, values["exposed_to"])))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{KEY} in config.json is {values!r}, which cannot be read; "
                "use the hf_wbc that wrote the model"
            ) from error
