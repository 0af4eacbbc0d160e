"""What a publication would change at its destination, and what would stop it there.

Nothing is written.
"""

from dataclasses import dataclass

from hf_wbc.hub.asking import Report
from hf_wbc.hub.change import Change, plan_change
from hf_wbc.hub.destination import Destination, Folder, HubRepo
from hf_wbc.hub.hand_edits import Card
from hf_wbc.hub.ignored import refuse_ignored
from hf_wbc.hub.publication import Publication
from hf_wbc.hub.remote import MAIN
from hf_wbc.hub.tags import check_tag, next_tag


@dataclass(frozen=True)
class Outlook:
    """What is to be expected."""

    publication: Publication
    """Under its tag."""
    change: Change | None = None
    """None: the repository is not there yet, and everything is new."""
    private: bool | None = None
    """Whether a repository that is there is private."""


def rehearse(
    publication: Publication, destination: Destination, *, card: Card, report: Report
) -> Outlook:
    """What `publish` would do there; it raises what that would raise about the destination.

    Files may be empty where nobody has made them yet: what depends on their content alone, such as
    the difference to a card that was edited by hand, is not told then.
    """
    check_tag(publication.tag)
    if isinstance(destination, Folder):
        return _in_folder(publication, destination, card)
    return _on_hub(publication, destination, card, report)


def _on_hub(publication: Publication, repo: HubRepo, card: Card, report: Report) -> Outlook:
    from hf_wbc.hub.to_hub import choose, connect, reach, tagged

    api = connect(report)
    remote = reach(api, publication, repo, report)
    if remote is None:
        return Outlook(publication.pinned(publication.tag or next_tag(())))
    made = choose(publication, remote, card)
    change = plan_change(made, tagged(made, remote, card) or remote, card)
    refuse_ignored(remote, MAIN, {path: change.files[path] for path in change.written})
    return Outlook(made, change, remote.private)


def _in_folder(publication: Publication, folder: Folder, card: Card) -> Outlook:
    from hf_wbc.hub.to_folder import Shelf, choose, refuse_strangers

    shelf = Shelf(folder.path)
    refuse_strangers(shelf)
    made, place = choose(publication, folder, card)
    is_there = publication.tag is not None and place.exists()
    return Outlook(made, plan_change(made, Shelf(place) if is_there else shelf, card))
