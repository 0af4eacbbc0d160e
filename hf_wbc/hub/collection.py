"""A collection on the Hub: everything published by one project, on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_wbc.hub.client import OnEvent, connect, request
from hf_wbc.hub.publication import HubRepo

__all__ = ["DESCRIPTION", "MAX_DESCRIPTION", "Item", "collect_on_hub"]

DESCRIPTION = (
    "White blood cells across laboratories: datasets of eleven classes, models, the metric and "
    "comparisons. For research only, not a medical device."
)
MAX_DESCRIPTION = 150
"""The number of characters that the Hub accepts."""


@dataclass(frozen=True)
class Item:
    """A repository in a collection."""

    repo: HubRepo
    note: str = ""
    """One line shown beside it."""


def collect_on_hub(
    title: str, owner: str, items: Sequence[Item], on_event: OnEvent, *, private: bool = True
) -> str:
    """Add repositories to the owner's collection of that title, created if missing.

    Items that others added stay.

    Args:
        title: The collection's title.
        owner: A user or organization.
        items: The repositories to add.
        on_event: Receives one line for each retry.
        private: Whether a new collection is private.

    Returns:
        The collection's slug.

    Raises:
        ValueError: The user has to fix something, such as the token.
        OSError: The Hub cannot be reached.
    """
    api = connect()
    add_collection_item: Any = api.add_collection_item
    slug = _find(api, title, owner, on_event)
    if slug is None:
        collection = request(
            f"creating the collection {title!r}",
            lambda: api.create_collection(
                title, namespace=owner, description=DESCRIPTION, private=private
            ),
            owner,
            on_event,
        )
        slug = str(collection.slug)
    for item in items:

        def add(item: Item = item) -> None:
            add_collection_item(
                slug, item.repo.repo_id, item.repo.repo_type, note=item.note or None, exists_ok=True
            )

        request(f"adding {item.repo} to the collection", add, item.repo.repo_id, on_event)
    return slug


def _find(api: Any, title: str, owner: str, on_event: OnEvent) -> str | None:
    """The slug of the owner's collection of that title."""
    found = request(
        f"listing the collections of {owner}",
        lambda: [each.slug for each in api.list_collections(owner=owner) if each.title == title],
        owner,
        on_event,
    )
    return str(found[0]) if found else None
