"""Cards: a shipped template, front matter that the Hub reads, and text that people read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_wbc import __version__
from hf_wbc.hub.publication import TAG, Destination, HubRepo
from hf_wbc.shipped import shipped

if TYPE_CHECKING:
    from huggingface_hub import CardData


def render_card(template: str, data: "CardData", **values: Any) -> str:
    """The text of a README.md; a value that the template asks for and nobody gave is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(shipped(template).read_text(encoding="utf-8"))
    front = data.to_yaml(line_break="\n").rstrip("\n")
    return text.render(card_data=front, version=__version__, **values).rstrip("\n") + "\n"


@dataclass(frozen=True)
class CardLocation:
    """What others write to load a publication by its tag."""

    name: str
    """`org/name`, or `./folder@v1`: where a folder lies on this machine is nobody's business."""
    pin: str = ""
    """`, revision="v1"` on the Hub."""
    ref: str = ""
    """Both in one, as hf-wbc takes them: `org/name@v1`."""


def card_location(destination: Destination) -> CardLocation:
    """Where others find it, with `TAG` for its tag."""
    if isinstance(destination, HubRepo):
        repo = destination.repo_id
        return CardLocation(repo, f', revision="{TAG}"', f"{repo}@{TAG}")
    folder = f"./{destination.tagged(TAG).name}"
    return CardLocation(folder, ref=folder)
