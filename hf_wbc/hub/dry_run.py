"""What a publication would do, line by line, and who would see it; nothing is written anywhere.

What a publication would change at its destination, and what would stop it there.

Nothing is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hf_wbc.hub.change import Card, Change, plan_change
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.client import Report
from hf_wbc.hub.publication import (
    MANIFEST,
    Destination,
    HubRepo,
    Manifest,
    Publication,
    PublishFolder,
    format_size,
    total_size,
)
from hf_wbc.hub.repository import MAIN, check_tag, next_tag, require_no_ignored


@dataclass(frozen=True)
class DryRun:
    """What is to be expected."""

    publication: Publication
    """Under its tag."""
    change: Change | None = None
    """None: the repository is not there yet, and everything is new."""
    private: bool | None = None
    """Whether a repository that is there is private."""


def dry_run(
    publication: Publication, destination: Destination, *, card: Card, report: Report
) -> DryRun:
    """What `publish` would do there; it raises what that would raise about the destination.

    Files may be empty where nobody has made them yet: what depends on their content alone, such as
    the difference to a card that was edited by hand, is not told then.
    """
    check_tag(publication.tag)
    if isinstance(destination, PublishFolder):
        return _in_folder(publication, destination, card)
    return _on_hub(publication, destination, card, report)


def _on_hub(publication: Publication, repo: HubRepo, card: Card, report: Report) -> DryRun:
    from hf_wbc.hub.to_hub import choose_parent, connect, reach_endpoint, tagged

    api = connect(report)
    remote = reach_endpoint(api, publication, repo, report)
    if remote is None:
        return DryRun(publication.pinned(publication.tag or next_tag(())))
    made = choose_parent(publication, remote, card)
    change = plan_change(made, tagged(made, remote, card) or remote, card)
    require_no_ignored(remote, MAIN, {path: change.files[path] for path in change.written})
    return DryRun(made, change, remote.private)


def _in_folder(publication: Publication, folder: PublishFolder, card: Card) -> DryRun:
    from hf_wbc.hub.to_folder import FolderState, choose_revision, require_own_files

    shelf = FolderState(folder.path)
    require_own_files(shelf)
    made, place = choose_revision(publication, folder, card)
    is_there = publication.tag is not None and place.exists()
    return DryRun(made, plan_change(made, FolderState(place) if is_there else shelf, card))


def preview(
    publication: Publication, destination: Destination, *, card: Card, report: Report
) -> Iterator[str]:
    """Every file with its size and what would become of it, after a line on who would see it.

    Whatever would stop the publication is raised as `publish` raises it: after the list, where it
    is about the destination.
    """
    check_publication(publication)
    outlook = DryRun(publication)
    problem: Exception | None = None
    try:
        outlook = dry_run(publication, destination, card=card, report=report)
    except (ValueError, OSError) as error:
        problem = error
    sizes = _sizes(outlook.publication, outlook.change)
    yield _headline(outlook, destination, sizes)
    yield from _files(sizes, outlook.change)
    if problem:
        raise problem


def _headline(outlook: DryRun, destination: Destination, sizes: Mapping[str, int]) -> str:
    if isinstance(destination, PublishFolder):
        place, seen = "a folder", "whoever may read the folder"
    else:
        place = f"a {destination.repo_type} on the Hub"
        is_public = outlook.publication.public and not outlook.private
        seen = "EVERYBODY: it is public" if is_public else "its owners alone: it is private"
    tag = outlook.publication.tag or "the next tag"
    num_bytes = format_size(sum(sizes.values()))
    return f"{destination} ({place}), {tag}: {len(sizes)} files, {num_bytes}; seen by {seen}"


def _sizes(publication: Publication, change: Change | None) -> Mapping[str, int]:
    """Bytes by path of all that would be there, the manifest included."""
    files = {**publication.files, MANIFEST: Manifest.of(publication).to_bytes()}
    files = dict(change.files) if change is not None else files
    return {path: total_size(files[path]) for path in sorted(files)}


def _files(sizes: Mapping[str, int], change: Change | None) -> Iterator[str]:
    """One line a file: size, what becomes of it, path."""
    for path, size in sizes.items():
        what = "send" if change is None or path in change.written else "there already"
        yield f"{size:>15,}  {what:<13}  {path}"
    if change is not None:
        for what, paths in (("delete", change.deleted), ("leave alone", change.foreign)):
            yield from (f"{'':>15}  {what:<13}  {path}" for path in paths)
