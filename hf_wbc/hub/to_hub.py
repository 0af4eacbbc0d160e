"""To the Hub: one commit on the head that was looked at, checked, then tagged."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hf_wbc.hub.asking import Conflict, Report, Stale, ask
from hf_wbc.hub.change import Change, plan_change
from hf_wbc.hub.destination import HubRepo
from hf_wbc.hub.hand_edits import Card
from hf_wbc.hub.publication import CARD, Publication, bytes_of
from hf_wbc.hub.remote import MAIN, Remote, look, refuse_other_type, require_account
from hf_wbc.hub.tags import next_tag
from hf_wbc.hub.xet import choose_transfer

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAX_RACES = 8
"""Times that others may commit between our look and our commit."""


def publish_to_hub(
    publication: Publication, repo: HubRepo, branch: str | None, card: Card, report: Report
) -> str:
    """The commit's id; see `hf_wbc.hub.publish.publish`."""
    api = connect(report)
    require_account(api, repo, report)
    refuse_other_type(api, repo, report)
    remote = look(api, repo, MAIN, report)
    if remote is None:
        _create(api, publication, repo, report)
    else:
        refuse_public(publication, remote)
        if publication.public and remote.private:
            report(f"{repo} is private and stays so; its settings can make it public")
    if branch is not None and branch != MAIN:
        _make_branch(api, repo, branch, report)
    if publication.tag and remote and (there := _tagged(publication, remote, card, report)):
        return there
    commit = _commit(api, publication, repo, branch or MAIN, card, report)
    if publication.tag or branch in (None, MAIN):
        _tag(api, publication, repo, commit, card, report)
    return commit


def connect(report: Report) -> "HfApi":
    """The client; ValueError when the user wants to stay offline."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set; unset it to publish, or give a folder as --to")
    return HfApi(library_name="hf_wbc")


def refuse_public(publication: Publication, remote: Remote) -> None:
    """ValueError when everybody would see what is private."""
    if not publication.public and not remote.private:
        raise ValueError(
            f"{remote.repo} is public, and this publication is private; choose another --to, or "
            "make it private in its settings"
        )


def _create(api: "HfApi", publication: Publication, repo: HubRepo, report: Report) -> None:
    """An empty repository, seen by those who may see what comes."""
    sdk: dict[str, Any] = {}
    if repo.repo_type == "space":
        from huggingface_hub import RepoCard

        card = RepoCard(bytes_of(publication.files[CARD]).decode(), ignore_metadata_errors=True)
        sdk = {"space_sdk": card.data.get("sdk") or "static"}
    ask(
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
    ask(
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
) -> str:
    """Commit what differs, on whatever the head is by then."""
    for _ in range(_MAX_RACES):
        remote = look(api, repo, branch, report)
        if remote is None:
            raise ValueError(f"{repo} has gone while it was published; repeat the command")
        refuse_public(publication, remote)  # whoever made it since, or opened it
        change = plan_change(publication, remote, card)
        if change.is_empty:
            return remote.head
        choose_transfer(api, repo, branch, report)
        report(f"{repo}: {change.words}")
        try:
            commit = ask(
                f"committing to {repo}",
                _committing(api, publication, remote, branch, change),
                repo.repo_id,
                report,
            )
        except Stale:
            report(f"somebody else has published to {repo}; looking again")
            continue
        _verify(api, publication, repo, commit, card, report)
        return commit
    raise ValueError(
        f"others have committed to {repo} {_MAX_RACES} times meanwhile; repeat the command when "
        "they are done"
    )


def _committing(
    api: "HfApi", publication: Publication, remote: Remote, branch: str, change: Change
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
    """OSError unless the commit holds what was sent: a .gitignore there drops files silently."""
    made = look(api, repo, commit, report)
    change = plan_change(publication, made, card) if made else None
    if change is None or not change.is_empty:
        lost = ", ".join((*change.written, *change.deleted)) if change else "everything"
        raise OSError(
            f"{repo} lacks what was committed to it: {lost}; nothing was tagged. Look for a "
            ".gitignore there, and for what the server does"
        )


def _tagged(publication: Publication, remote: Remote, card: Card, report: Report) -> str | None:
    """The commit of the tag that was asked for, if it holds this; ValueError for other content."""
    tag = publication.tag
    if tag is None or tag not in remote.tags:
        return None
    made = look(remote.api, remote.repo, tag, report)
    if made is None or not plan_change(publication, made, card).is_empty:
        raise ValueError(
            f"{tag} of {remote.repo} exists with other content, and what others load must not "
            f"change under them; choose another --tag, such as {next_tag(remote.tags)}"
        )
    report(f"{remote.repo} {tag} is {made.head}, and was there already")
    return made.head


def _tag(
    api: "HfApi",
    publication: Publication,
    repo: HubRepo,
    commit: str,
    card: Card,
    report: Report,
) -> None:
    """Tag the commit, unless it has the tag, or any when none was asked for."""
    for _ in range(_MAX_RACES):
        remote = look(api, repo, commit, report)
        assert remote is not None
        if publication.tag is None and commit in remote.tags.values():
            names = [name for name, there in remote.tags.items() if there == commit]
            report(f"{repo} {names[-1]} is {commit}, and was there already")
            return
        if publication.tag and _tagged(publication, remote, card, report):
            return
        tag = publication.tag or next_tag(remote.tags)

        def make(tag: str = tag) -> None:
            api.create_tag(repo.repo_id, tag=tag, revision=commit, repo_type=repo.repo_type)

        try:
            ask(f"tagging {repo}", make, repo.repo_id, report)
        except Conflict:
            continue
        made = look(api, repo, tag, report)
        if made is None or made.head != commit:
            raise OSError(f"{repo} serves another commit as {tag} than was tagged; ask its owner")
        report(f"{repo} {tag} is {commit}")
        return
    raise ValueError(f"others tag {repo} all the time; repeat the command when they are done")
