"""What a publication would do, line by line, and who would see it; nothing is written anywhere."""

from collections.abc import Iterator, Mapping

from hf_wbc.hub.asking import Report
from hf_wbc.hub.change import Change, plan_change
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.destination import Destination, Folder, HubRepo
from hf_wbc.hub.hand_edits import Card
from hf_wbc.hub.manifest import MANIFEST, Manifest
from hf_wbc.hub.publication import Publication, size_of, size_words
from hf_wbc.hub.remote import MAIN, look, refuse_other_type, require_account
from hf_wbc.hub.tags import next_tag


def preview(
    publication: Publication, destination: Destination, *, card: Card, report: Report
) -> Iterator[str]:
    """Every file with its size and what would become of it, after a line on who would see it.

    Whatever would stop the publication is raised as `publish` raises it: after the list, where it
    is about the destination.
    """
    check_publication(publication)
    change: Change | None = None
    tag = publication.tag or "the next tag"
    problem: Exception | None = None
    private: bool | None = None
    try:
        if isinstance(destination, Folder):
            change, tag = _in_folder(publication, destination, card)
        else:
            change, tag, private = _on_hub(publication, destination, card, report)
    except (ValueError, OSError) as error:
        problem = error
    sizes = _sizes(publication, change)
    yield _headline(publication, destination, tag, private, sizes)
    yield from _files(sizes, change)
    if problem:
        raise problem


def _on_hub(
    publication: Publication, repo: HubRepo, card: Card, report: Report
) -> tuple[Change | None, str, bool | None]:
    """The change, the tag, and whether the repository is private; Nones when there is none."""
    from hf_wbc.hub.to_hub import connect, refuse_public

    api = connect(report)
    require_account(api, repo, report)
    refuse_other_type(api, repo, report)
    remote = look(api, repo, MAIN, report)
    if remote is None:
        return None, publication.tag or next_tag(()), None
    refuse_public(publication, remote)
    change = plan_change(publication, remote, card)
    same = [tag for tag, commit in remote.tags.items() if commit == remote.head]
    there = same[-1] if same and change.is_empty else next_tag(remote.tags)
    return change, publication.tag or there, remote.private


def _in_folder(publication: Publication, folder: Folder, card: Card) -> tuple[Change, str]:
    from hf_wbc.hub.to_folder import Shelf, choose_tag, refuse_strangers

    shelf = Shelf(folder.path)
    refuse_strangers(shelf)
    return plan_change(publication, shelf, card), choose_tag(publication, folder, card)


def _headline(
    publication: Publication,
    destination: Destination,
    tag: str,
    private: bool | None,
    sizes: Mapping[str, int],
) -> str:
    if isinstance(destination, Folder):
        place, seen = "a folder", "whoever may read the folder"
    else:
        place = f"a {destination.repo_type} on the Hub"
        is_public = publication.public and not private
        seen = "EVERYBODY: it is public" if is_public else "its owners alone: it is private"
    return (
        f"{destination} ({place}), {tag}: {len(sizes)} files, "
        f"{size_words(sum(sizes.values()))}; "
        f"seen by {seen}"
    )


def _sizes(publication: Publication, change: Change | None) -> Mapping[str, int]:
    """Bytes by path of all that would be there, the manifest included."""
    files = {**publication.files, MANIFEST: Manifest.of(publication).to_bytes()}
    files = dict(change.files) if change is not None else files
    return {path: size_of(files[path]) for path in sorted(files)}


def _files(sizes: Mapping[str, int], change: Change | None) -> Iterator[str]:
    """One line a file: size, what becomes of it, path."""
    for path, size in sizes.items():
        what = "send" if change is None or path in change.written else "there already"
        yield f"{size:>15,}  {what:<13}  {path}"
    if change is not None:
        for what, paths in (("delete", change.deleted), ("leave alone", change.foreign)):
            yield from (f"{'':>15}  {what:<13}  {path}" for path in paths)
