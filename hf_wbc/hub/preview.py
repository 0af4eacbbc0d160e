"""What a publication would do, line by line, and who would see it; nothing is written anywhere."""

from collections.abc import Iterator, Mapping

from hf_wbc.hub.asking import Report
from hf_wbc.hub.change import Change
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.destination import Destination, Folder
from hf_wbc.hub.hand_edits import Card
from hf_wbc.hub.manifest import MANIFEST, Manifest
from hf_wbc.hub.publication import Publication, size_of, size_words
from hf_wbc.hub.rehearsal import Outlook, rehearse


def preview(
    publication: Publication, destination: Destination, *, card: Card, report: Report
) -> Iterator[str]:
    """Every file with its size and what would become of it, after a line on who would see it.

    Whatever would stop the publication is raised as `publish` raises it: after the list, where it
    is about the destination.
    """
    check_publication(publication)
    outlook = Outlook(publication)
    problem: Exception | None = None
    try:
        outlook = rehearse(publication, destination, card=card, report=report)
    except (ValueError, OSError) as error:
        problem = error
    sizes = _sizes(outlook.publication, outlook.change)
    yield _headline(outlook, destination, sizes)
    yield from _files(sizes, outlook.change)
    if problem:
        raise problem


def _headline(outlook: Outlook, destination: Destination, sizes: Mapping[str, int]) -> str:
    if isinstance(destination, Folder):
        place, seen = "a folder", "whoever may read the folder"
    else:
        place = f"a {destination.repo_type} on the Hub"
        is_public = outlook.publication.public and not outlook.private
        seen = "EVERYBODY: it is public" if is_public else "its owners alone: it is private"
    tag = outlook.publication.tag or "the next tag"
    num_bytes = size_words(sum(sizes.values()))
    return f"{destination} ({place}), {tag}: {len(sizes)} files, {num_bytes}; seen by {seen}"


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
