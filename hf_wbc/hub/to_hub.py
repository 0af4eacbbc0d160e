"""To the Hub: one commit on the head that was looked at, checked, then tagged."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hf_wbc.hub.change import Card, Change, plan_change
from hf_wbc.hub.client import Conflict, Report, StaleRevision, choose_transfer, post, request
from hf_wbc.hub.publication import CARD, HubRepo, Publication, read_bytes
from hf_wbc.hub.repository import (
    MAIN,
    RemoteRepository,
    inspect_repository,
    next_tag,
    require_account,
    require_no_ignored,
    require_repo_type,
    require_write,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAX_RACES = 8
"""Times that others may commit between our look and our commit."""


def publish_to_hub(
    publication: Publication, repo: HubRepo, branch: str | None, card: Card, report: Report
) -> str:
    """The commit's id; see `hf_wbc.hub.publish.publish`."""
    api = connect(report)
    remote = reach_endpoint(api, publication, repo, report)
    if remote is None:
        create(api, publication, repo, report)
    elif publication.public and remote.private:
        report(f"{repo} is private and stays so; its settings can make it public")
    if branch is not None and branch != MAIN:
        _make_branch(api, repo, branch, report)
    wants_tag = publication.tag is not None or branch in (None, MAIN)
    for _ in range(_MAX_RACES):
        commit, made = _commit(api, publication, repo, branch or MAIN, card, report, wants_tag)
        if not wants_tag or _tag(api, made, repo, commit, report):
            return commit
    raise ValueError(f"others tag {repo} all the time; repeat the command when they are done")


def reach_endpoint(
    api: "HfApi", publication: Publication, repo: HubRepo, report: Report
) -> RemoteRepository | None:
    """The repository as it is now; None when it has to be made.

    ValueError when this account may not write there, others would see what they may not, or the
    Hub does not take the card.
    """
    require_account(api, repo, report)
    require_repo_type(api, repo, report)
    remote = inspect_repository(api, repo, MAIN, report)
    if remote is not None:
        require_private(publication, remote)
        require_write(remote)
    _check_card(api, publication, repo, report)
    return remote


def _check_card(api: "HfApi", publication: Publication, repo: HubRepo, report: Report) -> None:
    """ValueError for front matter that the Hub does not take, such as an unknown licence."""
    text = read_bytes(publication.files[CARD]).decode()
    url, asked = f"{api.endpoint}/api/validate-yaml", {"content": text, "repoType": repo.repo_type}
    request("checking the card", lambda: post(url, asked), repo.repo_id, report)


def choose_parent(publication: Publication, remote: RemoteRepository, card: Card) -> Publication:
    """The same under the tag that was asked for, one of the head that holds it, or the next."""
    if publication.tag is not None:
        return publication.pinned(publication.tag)
    at_head = [tag for tag, commit in remote.tags.items() if commit == remote.head]
    for tag in reversed(at_head):
        made = publication.pinned(tag)
        if plan_change(made, remote, card).is_empty:
            return made
    return publication.pinned(next_tag(remote.tags))


def tagged(
    publication: Publication, remote: RemoteRepository, card: Card
) -> RemoteRepository | None:
    """The tag that was asked for, if it holds this; ValueError for other content."""
    tag = publication.tag
    if tag is None or tag not in remote.tags:
        return None
    made = inspect_repository(remote.api, remote.repo, tag, remote.report)
    if made is None or not plan_change(publication.pinned(tag), made, card).is_empty:
        raise ValueError(
            f"{tag} of {remote.repo} exists with other content, and what others load must not "
            f"change under them; choose another --tag, such as {next_tag(remote.tags)}"
        )
    return made


def connect(report: Report) -> "HfApi":
    """The client; ValueError when the user wants to stay offline."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set; unset it to publish, or give a folder as --to")
    return HfApi(library_name="hf_wbc")


def require_private(publication: Publication, remote: RemoteRepository) -> None:
    """ValueError when everybody would see what is private."""
    if not publication.public and not remote.private:
        raise ValueError(
            f"{remote.repo} is public, and this publication is private; choose another --to, or "
            "make it private in its settings"
        )


def create(api: "HfApi", publication: Publication, repo: HubRepo, report: Report) -> None:
    """An empty repository, seen by those who may see what comes."""
    sdk: dict[str, Any] = {}
    if repo.repo_type == "space":
        from huggingface_hub import RepoCard

        card = RepoCard(read_bytes(publication.files[CARD]).decode(), ignore_metadata_errors=True)
        sdk = {"space_sdk": card.data.get("sdk") or "static"}
    request(
        f"creating {repo}",
        lambda: api.create_repo(
            repo.repo_id,
            repo_type=repo.repo_type,
            private=not publication.public,
            exist_ok=True,
            **sdk,
        ),
        repo.repo_id,
        report,
    )


def _make_branch(api: "HfApi", repo: HubRepo, branch: str, report: Report) -> None:
    request(
        f"making the branch {branch}",
        lambda: api.create_branch(
            repo.repo_id, repo_type=repo.repo_type, branch=branch, exist_ok=True
        ),
        repo.repo_id,
        report,
    )


def _commit(
    api: "HfApi",
    publication: Publication,
    repo: HubRepo,
    branch: str,
    card: Card,
    report: Report,
    wants_tag: bool,
) -> tuple[str, Publication]:
    """Commit what differs, on whatever the head is by then; the commit, and what is in it."""
    for _ in range(_MAX_RACES):
        remote = inspect_repository(api, repo, branch, report)
        if remote is None:
            raise ValueError(f"{repo} has gone while it was published; repeat the command")
        require_private(publication, remote)  # whoever made it since, or opened it
        made = choose_parent(publication, remote, card) if wants_tag else publication
        if there := tagged(made, remote, card):
            return there.head, made
        change = plan_change(made, remote, card)
        if change.is_empty:
            return remote.head, made
        require_no_ignored(remote, branch, {path: change.files[path] for path in change.written})
        choose_transfer(api, repo, branch, report)
        report(f"{repo}: {change.words}")
        try:
            commit = request(
                f"committing to {repo}",
                _committing(api, made, remote, branch, change),
                repo.repo_id,
                report,
            )
        except StaleRevision:
            report(f"somebody else has published to {repo}; looking again")
            continue
        _verify(api, made, repo, commit, card, report)
        return commit, made
    raise ValueError(
        f"others have committed to {repo} {_MAX_RACES} times meanwhile; repeat the command when "
        "they are done"
    )


def _committing(
    api: "HfApi", publication: Publication, remote: RemoteRepository, branch: str, change: Change
) -> Callable[[], str]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def commit() -> str:
        operations: list[Any] = []
        for path in change.written:
            operation = CommitOperationAdd(path, change.files[path])
            if change.files[path] is publication.files.get(path):
                operation.upload_info.sha256 = bytes.fromhex(publication.digests[path])
            operations.append(operation)
        operations += [CommitOperationDelete(path, is_folder=False) for path in change.deleted]
        # for good: to put filters back is not safe beside a thread that trains
        warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
        return str(
            api.create_commit(
                remote.repo.repo_id,
                operations,
                commit_message=publication.message,
                repo_type=remote.repo.repo_type,
                revision=branch,
                parent_commit=remote.head,
            ).oid
        )

    return commit


def _verify(
    api: "HfApi",
    publication: Publication,
    repo: HubRepo,
    commit: str,
    card: Card,
    report: Report,
) -> None:
    """OSError unless the commit holds what was sent."""
    made = inspect_repository(api, repo, commit, report)
    change = plan_change(publication, made, card) if made else None
    if change is None or not change.is_empty:
        lost = ", ".join((*change.written, *change.deleted)) if change else "everything"
        raise OSError(
            f"{repo} lacks what was committed to it: {lost}; nothing was tagged. Look for what the "
            "server does"
        )


def _tag(
    api: "HfApi", publication: Publication, repo: HubRepo, commit: str, report: Report
) -> bool:
    """Tag the commit; False when somebody else has taken the tag meanwhile."""
    tag = publication.tag
    assert tag is not None
    remote = inspect_repository(api, repo, commit, report)
    assert remote is not None
    if tag in remote.tags:
        if remote.tags[tag] == commit:
            report(f"{repo} {tag} is {commit}, and was there already")
        return remote.tags[tag] == commit

    def make() -> None:
        api.create_tag(repo.repo_id, tag=tag, revision=commit, repo_type=repo.repo_type)

    try:
        request(f"tagging {repo}", make, repo.repo_id, report)
    except Conflict:
        return False
    made = inspect_repository(api, repo, tag, report)
    if made is None or made.head != commit:
        raise OSError(f"{repo} serves another commit as {tag} than was tagged; ask its owner")
    report(f"{repo} {tag} is {commit}")
    return True
