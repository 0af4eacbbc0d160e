"""Render cards: front matter, which the Hub reads, and text from a shipped template."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_wbc import __version__
from hf_wbc.hub.publication import TAG, Destination, HubRepo
from hf_wbc.shipped import shipped

if TYPE_CHECKING:
    from huggingface_hub import CardData

__all__ = ["CardLocation", "card_location", "render_card"]


def render_card(template: str, data: "CardData", **values: Any) -> str:
    """Render the text of a README.md.

    Args:
        template: The template's path below the shipped files, such as `model_cards/model.md`.
        data: The front matter.
        **values: The template's variables; a missing one is an error.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(shipped(template).read_text(encoding="utf-8"))
    front = data.to_yaml(line_break="\n").rstrip("\n")
    return text.render(card_data=front, version=__version__, **values).rstrip("\n") + "\n"


@dataclass(frozen=True)
class CardLocation:
    """How others refer to a publication at its tag."""

    name: str
    """`org/name`, or `./folder@v1`, without the path on this machine."""
    pin: str = ""
    """The additional argument: `, revision="v1"` on the Hub, else empty."""
    ref: str = ""
    """Both in the notation of hf-wbc: `org/name@v1`."""


def card_location(destination: Destination) -> CardLocation:
    """How others refer to a publication there, with `TAG` in place of its tag."""
    if isinstance(destination, HubRepo):
        repo = destination.repo_id
        return CardLocation(repo, f', revision="{TAG}"', f"{repo}@{TAG}")
    folder = f"./{destination.tagged(TAG).name}"
    return CardLocation(folder, ref=folder)
