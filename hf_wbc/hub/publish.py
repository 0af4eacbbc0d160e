"""Publish to the Hub or to a folder: check the files, then write all of them or none."""

from collections.abc import Iterator, Mapping

from hf_wbc.hub.change import CardPolicy, Change
from hf_wbc.hub.checks import check_publication
from hf_wbc.hub.client import OnEvent
from hf_wbc.hub.publication import (
    MANIFEST,
    Destination,
    Manifest,
    Publication,
    PublishFolder,
    format_size,
    total_size,
)
from hf_wbc.hub.publisher import DryRun, Publisher

__all__ = ["open_publisher", "preview", "publish"]


def publish(
    publication: Publication,
    destination: Destination,
    *,
    branch: str | None = None,
    card: CardPolicy = "refuse",
    on_event: OnEvent | None = None,
) -> str:
    """Publish everything in one commit, then tag it.

    Publishing the same content again changes nothing, except that a missing tag is added. If
    publishing fails, the destination still serves its previous state, and repeating the call
    resumes.

    Args:
        publication: The files, from `dataset_publication`, `model_publication` and so on.
        destination: From `parse_destination`.
        branch: The branch to publish to, created if missing; the default branch if None. On
            another branch nothing is tagged, unless the publication names a tag.
        card: What to do about a card that was edited at the destination.
        on_event: Receives one line for each wait, retry and result.

    Returns:
        The commit id on the Hub, or the digest of all files in a folder.

    Raises:
        ValueError: The publication contains something that must not be published, or the user
            has to fix something: the token, rights, names, a card edited by hand.
        OSError: The Hub cannot be reached or fails repeatedly.
    """
    check_publication(publication, is_complete=branch is None)
    publisher = open_publisher(destination, card=card, on_event=on_event)
    return publisher.publish(publication, branch=branch)


def open_publisher(
    destination: Destination, *, card: CardPolicy = "refuse", on_event: OnEvent | None = None
) -> Publisher:
    """The publisher for a destination.

    Args:
        destination: From `parse_destination`.
        card: What to do about a card that was edited at the destination.
        on_event: Receives one line for each wait, retry and result.

    Raises:
        ValueError: The destination is on the Hub, and HF_HUB_OFFLINE is set.
    """
    on_event = on_event or _ignore
    if isinstance(destination, PublishFolder):
        from hf_wbc.hub.folder_publisher import FolderPublisher

        return FolderPublisher(destination, card, on_event)
    from hf_wbc.hub.hub_publisher import HubPublisher

    return HubPublisher(destination, card, on_event)


def preview(
    publication: Publication,
    destination: Destination,
    *,
    card: CardPolicy = "refuse",
    on_event: OnEvent | None = None,
) -> Iterator[str]:
    """List what `publish` would do, and write nothing.

    Args:
        publication: The files.
        destination: From `parse_destination`.
        card: What to do about a card that was edited at the destination.
        on_event: Receives one line for each wait and retry.

    Yields:
        A headline that says who would see the files, then one line a file.

    Raises:
        ValueError: As `publish`. If the destination is the reason, the list comes first.
        OSError: As `publish`.
    """
    check_publication(publication)
    result = DryRun(publication)
    problem: Exception | None = None
    try:
        result = open_publisher(destination, card=card, on_event=on_event).dry_run(publication)
    except (ValueError, OSError) as error:
        problem = error
    sizes = _sizes(result.publication, result.change)
    yield _headline(result, destination, sizes)
    yield from _file_lines(sizes, result.change)
    if problem:
        raise problem


def _headline(result: DryRun, destination: Destination, sizes: Mapping[str, int]) -> str:
    if isinstance(destination, PublishFolder):
        place, audience = "a folder", "everyone who can read the folder"
    else:
        place = f"a {destination.repo_type} on the Hub"
        is_public = result.publication.public and not result.private
        audience = "EVERYONE: it is public" if is_public else "its owners only: it is private"
    tag = result.publication.tag or "the next tag"
    num_bytes = format_size(sum(sizes.values()))
    return f"{destination} ({place}), {tag}: {len(sizes)} files, {num_bytes}; visible to {audience}"


def _sizes(publication: Publication, change: Change | None) -> Mapping[str, int]:
    """Bytes by path of all files, including the manifest."""
    files = {**publication.files, MANIFEST: Manifest.of(publication).to_bytes()}
    files = dict(change.files) if change is not None else files
    return {path: total_size(files[path]) for path in sorted(files)}


def _file_lines(sizes: Mapping[str, int], change: Change | None) -> Iterator[str]:
    """One line a file: size, action, path."""
    for path, size in sizes.items():
        action = "send" if change is None or path in change.written else "unchanged"
        yield f"{size:>15,}  {action:<9}  {path}"
    if change is not None:
        for action, paths in (("delete", change.deleted), ("keep", change.foreign)):
            yield from (f"{'':>15}  {action:<9}  {path}" for path in paths)


def _ignore(_: str) -> None:
    pass
