"""A collection on the Hub: everything that was published of one project, on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_wbc.hub.client import Report, request
from hf_wbc.hub.publication import HubRepo

DESCRIPTION = (
    "White blood cells across laboratories: datasets of eleven classes, models, the metric and "
    "comparisons. For research; no medical device."
)
MAX_DESCRIPTION = 150
"""Letters that the Hub takes."""


@dataclass(frozen=True)
class Item:
    """A repository in a collection."""

    repo: HubRepo
    note: str = ""
    """One line beside it."""


def collect_on_hub(
    title: str, owner: str, items: Sequence[Item], report: Report, *, private: bool = True
) -> str:
    """Make the owner's collection of that title, or add to it what it lacks; its slug.

    What others put there stays. ValueError for what the user has to mend, OSError for what passes.
    """
    from hf_wbc.hub.to_hub import connect

    api = connect(report)
    adding: Any = api.add_collection_item
    slug = _find(api, title, owner, report)
    if slug is None:
        made = request(
            f"making the collection {title!r}",
            lambda: api.create_collection(
                title, namespace=owner, description=DESCRIPTION, private=private
            ),
            owner,
            report,
        )
        slug = str(made.slug)
    for item in items:

        def add(item: Item = item) -> None:
            adding(
                slug, item.repo.repo_id, item.repo.repo_type, note=item.note or None, exists_ok=True
            )

        request(f"adding {item.repo} to the collection", add, item.repo.repo_id, report)
    return slug


def _find(api: Any, title: str, owner: str, report: Report) -> str | None:
    """The slug of the owner's collection of that title."""
    found = request(
        f"looking at the collections of {owner}",
        lambda: [each.slug for each in api.list_collections(owner=owner) if each.title == title],
        owner,
        report,
    )
    return str(found[0]) if found else None
