"""The interface of everything one can publish to; the Hub and a shared folder implement it.

`hf_wbc.hub.publish.open_publisher` chooses the implementation for a destination:
`hf_wbc.hub.hub_publisher.HubPublisher` or `hf_wbc.hub.folder_publisher.FolderPublisher`.
"""

from dataclasses import dataclass
from typing import Protocol

from hf_wbc.hub.change import Change
from hf_wbc.hub.publication import Publication

__all__ = ["DryRun", "Publisher"]


@dataclass(frozen=True)
class DryRun:
    """What publishing would do."""

    publication: Publication
    """The publication under the tag it would get."""
    change: Change | None = None
    """The files to write and delete. None: the repository does not exist yet, all files are new."""
    private: bool | None = None
    """Whether the existing repository is private; None where there is none, and for a folder."""


class Publisher(Protocol):
    """One destination: publishes a complete state there in one step, then tags it."""

    supports_branches: bool
    """Whether `publish` accepts a branch."""

    def check_access(self) -> None:
        """Check the account's right to publish here, without a publication.

        Raises:
            ValueError: The token is missing or invalid, or the name is taken.
        """

    def dry_run(self, publication: Publication) -> DryRun:
        """Work out what `publish` would do, and write nothing.

        Files may be empty if they do not exist yet; checks that depend on their content alone,
        such as the difference to a card edited by hand, are then incomplete.

        Raises:
            ValueError: The destination would refuse the publication.
            OSError: The destination cannot be reached.
        """

    def reserve(self, publication: Publication) -> None:
        """Do a dry run, and create an empty repository if there is none.

        A command that takes hours before it publishes calls this first: only creating the
        repository proves that the token may do so.

        Raises:
            ValueError: The destination would refuse the publication.
            OSError: The destination cannot be reached.
        """

    def has_branch(self, branch: str) -> bool:
        """Whether the destination exists and has this branch."""

    def publish(self, publication: Publication, *, branch: str | None = None) -> str:
        """Write all files in one step, then tag them; see `hf_wbc.hub.publish.publish`.

        Returns:
            The commit id on the Hub, or the digest of all files in a folder.
        """
