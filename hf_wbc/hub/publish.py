"""Publish: check what goes out, then hand it to the Hub or to a folder, whole or not at all."""

from hf_wbc.hub.change import Card
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.client import Report
from hf_wbc.hub.publication import Destination, Publication, PublishFolder


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
    from hf_wbc.hub.to_folder import publish_to_folder
    from hf_wbc.hub.to_hub import publish_to_hub

    report = report or _silent
    check_publication(publication, finished=branch is None)
    if isinstance(destination, PublishFolder):
        if branch is not None:
            raise ValueError(f"{destination} is a folder and has no branches; publish to the Hub")
        return publish_to_folder(publication, destination, card, report)
    return publish_to_hub(publication, destination, branch, card, report)


def _silent(_: str) -> None:
    pass
