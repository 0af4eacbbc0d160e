"""Publish: check what goes out, then hand it to the Hub or to a folder, whole or not at all."""

from collections.abc import Callable
from typing import Literal

from hf_wbc.hub.destination import Destination
from hf_wbc.hub.publication import Publication

Report = Callable[[str], None]
"""Takes one line about what is going on: a wait that the Hub asked for, a retry."""
Card = Literal["refuse", "keep", "replace"]
"""What to do about a card that was edited at the destination."""


def publish(
    publication: Publication,
    destination: Destination,
    *,
    branch: str | None = None,
    card: Card = "refuse",
    report: Report | None = None,
) -> str:
    """Publish everything in one commit, then tag it; the commit's id on the Hub, or the digest of
    all files in a folder.

    A publication that is there already is left alone, but for a missing tag. On a `branch`, which
    is made if it is not there, nothing is tagged unless the publication names a tag.

    ValueError for what must not be published and for what is to be mended by the user (token,
    rights, names, a card edited by hand); OSError when the Hub cannot be reached or gives up.
    Whatever is raised, the destination serves what it served before, and the same command goes on.
    """
    raise NotImplementedError
