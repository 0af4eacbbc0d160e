"""Publish to the Hub: one commit on the head that was inspected, verified, then tagged."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hf_wbc.hub.change import CardPolicy, Change, plan_change
from hf_wbc.hub.client import (
    Conflict,
    OnEvent,
    StaleRevision,
    choose_transfer,
    connect,
    post,
    request,
)
from hf_wbc.hub.publication import CARD, HubRepo, Publication, check_tag, next_tag, read_bytes
from hf_wbc.hub.publisher import DryRun
from hf_wbc.hub.repository import (
    MAIN,
    RemoteRepository,
    inspect_repository,
    require_account,
    require_none_ignored,
    require_repo_type,
    require_write,
)

T = TypeVar("T")
__all__ = ["HubPublisher"]

_MAX_RACES = 8
"""How often others may commit between our inspection and our commit."""


class HubPublisher:
    """Publishes to one repository on the Hub; implements `Publisher`.

    Attributes:
        repo: The repository.
        card: What to do about a card that was edited on the Hub.
        on_event: Receives one line for each wait, retry and result.
        api: The client.
    """

    supports_branches = True

    def __init__(self, repo: HubRepo, card: CardPolicy, on_event: OnEvent) -> None:
        """Connect; ValueError if HF_HUB_OFFLINE is set."""
        self.repo, self.card, self.on_event = repo, card, on_event
        self.api = connect()

    def check_access(self) -> None:
        """Check the token, and that no repository of another type has this name."""
        require_account(self.api, self.repo, self.on_event)
        require_repo_type(self.api, self.repo, self.on_event)

    def dry_run(self, publication: Publication) -> DryRun:
        """Work out what `publish` would do, and write nothing."""
        check_tag(publication.tag)
        remote = self._inspect_for(publication)
        if remote is None:
            return DryRun(publication.pinned(publication.tag or next_tag(())))
        pinned = self._choose_tag(publication, remote)
        change = plan_change(pinned, self._find_tagged(pinned, remote) or remote, self.card)
        require_none_ignored(remote, MAIN, {path: change.files[path] for path in change.written})
        return DryRun(pinned, change, remote.private)

    def reserve(self, publication: Publication) -> None:
        """Do a dry run, and create the repository if it does not exist."""
        if self.dry_run(publication).change is None:
            self._create(publication)

    def has_branch(self, branch: str) -> bool:
        """Whether the repository exists and has this branch."""
        return self._inspect(branch) is not None

    def publish(self, publication: Publication, *, branch: str | None = None) -> str:
        """Commit, verify and tag; returns the commit id. See `hf_wbc.hub.publish.publish`."""
        remote = self._inspect_for(publication)
        if remote is None:
            self._create(publication)
        elif publication.public and remote.private:
            self.on_event(f"{self.repo} stays private; make it public in its settings")
        if branch is not None and branch != MAIN:
            self._create_branch(branch)
        wants_tag = publication.tag is not None or branch in (None, MAIN)
        for _ in range(_MAX_RACES):
            commit, pinned = self._commit(publication, branch or MAIN, wants_tag)
            if not wants_tag or self._tag(pinned, commit):
                return commit
        raise ValueError(
            f"others keep adding tags to {self.repo}; repeat the command when they are done"
        )

    def _inspect(self, revision: str) -> RemoteRepository | None:
        return inspect_repository(self.api, self.repo, revision, self.on_event)

    def _inspect_for(self, publication: Publication) -> RemoteRepository | None:
        """The repository as it is now, or None if it does not exist.

        ValueError if this account may not write there, the repository is public and the
        publication is not, or the Hub does not accept the card.
        """
        self.check_access()
        remote = self._inspect(MAIN)
        if remote is not None:
            self._require_private(publication, remote)
            require_write(remote)
        self._check_card(publication)
        return remote

    def _require_private(self, publication: Publication, remote: RemoteRepository) -> None:
        """ValueError if a private publication would become public."""
        if not publication.public and not remote.private:
            raise ValueError(
                f"{self.repo} is public, and this publication is private; choose another --to, "
                "or make the repository private in its settings"
            )

    def _check_card(self, publication: Publication) -> None:
        """ValueError for front matter that the Hub rejects, such as an unknown license."""
        text = read_bytes(publication.files[CARD]).decode()
        url = f"{self.api.endpoint}/api/validate-yaml"
        body = {"content": text, "repoType": self.repo.repo_type}
        self._request("checking the card", lambda: post(url, body))

    def _create(self, publication: Publication) -> None:
        """Create an empty repository, private unless the publication is public."""
        sdk: dict[str, Any] = {}
        if self.repo.repo_type == "space":
            from huggingface_hub import RepoCard

            text = read_bytes(publication.files[CARD]).decode()
            card = RepoCard(text, ignore_metadata_errors=True)
            sdk = {"space_sdk": card.data.get("sdk") or "static"}
        self._request(
            f"creating {self.repo}",
            lambda: self.api.create_repo(
                self.repo.repo_id,
                repo_type=self.repo.repo_type,
                private=not publication.public,
                exist_ok=True,
                **sdk,
            ),
        )

    def _create_branch(self, branch: str) -> None:
        self._request(
            f"creating the branch {branch}",
            lambda: self.api.create_branch(
                self.repo.repo_id, repo_type=self.repo.repo_type, branch=branch, exist_ok=True
            ),
        )

    def _choose_tag(self, publication: Publication, remote: RemoteRepository) -> Publication:
        """Pin the publication to the requested tag, a tag of the same head, or the next one."""
        if publication.tag is not None:
            return publication.pinned(publication.tag)
        at_head = [tag for tag, commit in remote.tags.items() if commit == remote.head]
        for tag in reversed(at_head):
            pinned = publication.pinned(tag)
            if plan_change(pinned, remote, self.card).is_empty:
                return pinned
        return publication.pinned(next_tag(remote.tags))

    def _find_tagged(
        self, publication: Publication, remote: RemoteRepository
    ) -> RemoteRepository | None:
        """The repository at the publication's tag, or None; ValueError if its content differs."""
        tag = publication.tag
        if tag is None or tag not in remote.tags:
            return None
        tagged = self._inspect(tag)
        if tagged is None or not plan_change(publication.pinned(tag), tagged, self.card).is_empty:
            raise ValueError(
                f"{tag} of {self.repo} exists with other content, and a tag must not change; "
                f"choose another --tag, such as {next_tag(remote.tags)}"
            )
        return tagged

    def _commit(
        self, publication: Publication, branch: str, wants_tag: bool
    ) -> tuple[str, Publication]:
        """Commit the difference to the current head; the commit id, and what it contains."""
        for _ in range(_MAX_RACES):
            remote = self._inspect(branch)
            if remote is None:
                raise ValueError(f"{self.repo} was deleted during publication; repeat the command")
            self._require_private(publication, remote)  # it may have changed since the first look
            pinned = self._choose_tag(publication, remote) if wants_tag else publication
            if tagged := self._find_tagged(pinned, remote):
                return tagged.head, pinned
            change = plan_change(pinned, remote, self.card)
            if change.is_empty:
                return remote.head, pinned
            written = {path: change.files[path] for path in change.written}
            require_none_ignored(remote, branch, written)
            choose_transfer(self.api, self.repo, branch, self.on_event)
            self.on_event(f"{self.repo}: {change.summary}")
            try:
                commit = self._request(
                    f"committing to {self.repo}",
                    partial(self._create_commit, pinned, remote, branch, change),
                )
            except StaleRevision:
                self.on_event(f"someone else has published to {self.repo}; checking again")
                continue
            self._verify(pinned, commit)
            return commit, pinned
        raise ValueError(
            f"others committed to {self.repo} {_MAX_RACES} times in the meantime; repeat the "
            "command when they are done"
        )

    def _create_commit(
        self, publication: Publication, remote: RemoteRepository, branch: str, change: Change
    ) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = []
        for path in change.written:
            operation = CommitOperationAdd(path, change.files[path])
            if change.files[path] is publication.files.get(path):
                operation.upload_info.sha256 = bytes.fromhex(publication.digests[path])
            operations.append(operation)
        operations += [CommitOperationDelete(path, is_folder=False) for path in change.deleted]
        # The filter stays: restoring it is not safe while another thread trains.
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
        return str(
            self.api.create_commit(
                self.repo.repo_id,
                operations,
                commit_message=publication.message,
                repo_type=self.repo.repo_type,
                revision=branch,
                parent_commit=remote.head,
            ).oid
        )

    def _verify(self, publication: Publication, commit: str) -> None:
        """OSError unless the commit contains what was sent."""
        remote = self._inspect(commit)
        change = plan_change(publication, remote, self.card) if remote else None
        if change is None or not change.is_empty:
            lost = ", ".join((*change.written, *change.deleted)) if change else "everything"
            raise OSError(
                f"{self.repo} lacks files that were committed to it: {lost}; nothing was tagged. "
                "Check the server"
            )

    def _tag(self, publication: Publication, commit: str) -> bool:
        """Tag the commit; False if someone else has used the tag in the meantime."""
        tag = publication.tag
        assert tag is not None
        remote = self._inspect(commit)
        assert remote is not None
        if tag in remote.tags:
            if remote.tags[tag] == commit:
                self.on_event(f"{self.repo} {tag} already exists: {commit}")
            return remote.tags[tag] == commit

        def create_tag() -> None:
            self.api.create_tag(
                self.repo.repo_id, tag=tag, revision=commit, repo_type=self.repo.repo_type
            )

        try:
            self._request(f"tagging {self.repo}", create_tag)
        except Conflict:
            return False
        tagged = self._inspect(tag)
        if tagged is None or tagged.head != commit:
            raise OSError(
                f"{self.repo} serves another commit as {tag} than the tagged one; ask its owner"
            )
        self.on_event(f"{self.repo} {tag} is {commit}")
        return True

    def _request(self, action: str, call: Callable[[], T]) -> T:
        return request(action, call, self.repo.repo_id, self.on_event)
