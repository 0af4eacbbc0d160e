"""A repository on the Hub as it is now, and what this token may do there.

Names of tags: v1, v2 and so on, unless somebody names one.

A .gitignore in a repository keeps files out of a commit, and the client says nothing of it.

So the server, which applies it, is asked before anything is sent."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hf_wbc.hub.client import Report, get, post, request
from hf_wbc.hub.publication import HubRepo, read_bytes, total_size
from hf_wbc.text import shorten_list

if TYPE_CHECKING:
    from huggingface_hub import HfApi


MAIN = "main"


@dataclass(frozen=True)
class RemoteRepository:
    """One revision of a repository."""

    repo: HubRepo
    head: str
    """The commit's id."""
    private: bool
    entries: Mapping[str, Any]
    """What the Hub says of each file, by path."""
    is_untouched: bool
    """There is but the Hub's own first commit."""
    api: "HfApi" = field(repr=False)
    report: Report = field(repr=False)

    @property
    def name(self) -> str:
        return self.repo.repo_id

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(self.entries)

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether the file has this content; a small one is compared by git's own digest."""
        entry = self.entries[path]
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == sha256)
        if entry.size != total_size(content):
            return False
        data = read_bytes(content)
        return bool(entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())

    def read(self, path: str) -> bytes:
        """A small file, past every cache."""
        from huggingface_hub import hf_hub_url

        def fetch() -> bytes:
            url = hf_hub_url(
                self.repo.repo_id, path, repo_type=self.repo.repo_type, revision=self.head,
                endpoint=self.api.endpoint,
            )  # fmt: skip
            return get(url)[1]

        return request(f"reading {path}", fetch, self.name, self.report)

    @cached_property
    def tags(self) -> dict[str, str]:
        """Commit by tag."""
        refs = request(
            "reading the tags",
            lambda: self.api.list_repo_refs(self.repo.repo_id, repo_type=self.repo.repo_type),
            self.name,
            self.report,
        )
        return {ref.name: ref.target_commit for ref in refs.tags}


def inspect_repository(
    api: "HfApi", repo: HubRepo, revision: str, report: Report
) -> RemoteRepository | None:
    """The repository at a branch, tag or commit; None when it, or the revision, is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    def info() -> Any:
        try:
            return api.repo_info(repo.repo_id, repo_type=repo.repo_type, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            if _is_refusal(error):
                raise
            return None

    def files() -> dict[str, Any]:
        tree = api.list_repo_tree(
            repo.repo_id, repo_type=repo.repo_type, revision=found.sha, recursive=True
        )
        return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}

    def num_commits() -> int:
        return len(
            api.list_repo_commits(repo.repo_id, repo_type=repo.repo_type, revision=found.sha)
        )

    found = request("looking at the repository", info, repo.repo_id, report)
    if found is None:
        return None
    return RemoteRepository(
        repo=repo,
        head=str(found.sha),
        private=bool(found.private),
        entries=(entries := request("listing the files", files, repo.repo_id, report)),
        is_untouched=len(entries) <= 2
        and request("reading the history", num_commits, repo.repo_id, report) == 1,
        api=api,
        report=report,
    )


def _is_refusal(error: Any) -> bool:
    """Whether the repository is there but closed: gated, or disabled."""
    return bool(error.response.headers.get("X-Error-Code") == "GatedRepo")


def require_account(api: "HfApi", repo: HubRepo, report: Report) -> None:
    """ValueError when there is no token, a wrong one, or one that cannot write to the owner's."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise ValueError(
            f"there is no token for {constants.ENDPOINT}; log in with `hf auth login`, or set "
            "HF_TOKEN to a token with the right to write"
        )

    def whoami() -> dict[str, Any]:
        try:
            return dict(api.whoami())
        except HfHubHTTPError as error:
            if error.response.status_code == 401:
                raise ValueError(
                    f"the token is refused by {constants.ENDPOINT}; log in again with `hf auth "
                    "login`, or set HF_TOKEN to a token that is valid there"
                ) from error
            raise

    account = request("asking whose token this is", whoami, repo.repo_id, report)
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise ValueError(
            f"the token of {account['name']} may read only; make one with the right to write in "
            "the settings of your account, and log in with it: `hf auth login`"
        )
    names = [account["name"], *(org["name"] for org in account.get("orgs", []))]
    if repo.owner not in names:
        raise ValueError(
            f"{repo.repo_id} would belong to {repo.owner}, where {account['name']} is no member; "
            f"choose from {', '.join(names)}"
        )


def require_write(remote: RemoteRepository) -> None:
    """ValueError when this token, which may write to some of its owner's, may not write here."""
    from huggingface_hub.errors import HfHubHTTPError

    def asked() -> None:
        try:
            remote.api.auth_check(remote.name, repo_type=remote.repo.repo_type, write=True)
        except HfHubHTTPError as error:
            if error.response.status_code not in (404, 405):  # a server that cannot be asked
                raise

    request("asking for the right to write", asked, remote.name, remote.report)


def require_repo_type(api: "HfApi", repo: HubRepo, report: Report) -> None:
    """ValueError when the name is taken by a repository of another type.

    The Hub would keep both: `org/x` the model and `org/x` the dataset are two repositories. Whoever
    reads the name alone takes one for the other, and mostly the --to was meant to be another.
    """
    from huggingface_hub.errors import HfHubHTTPError

    for other in ("model", "dataset", "space"):

        def exists(other: str = other) -> bool:
            try:
                api.repo_info(repo.repo_id, repo_type=other)
            except HfHubHTTPError as error:
                if error.response.status_code in (401, 403, 404):
                    return False
                raise
            return True

        if other != repo.repo_type and request("looking at the name", exists, repo.repo_id, report):
            raise ValueError(
                f"{repo.repo_id} is a {other} on the Hub, and this would be a {repo.repo_type}; "
                "choose another --to, so that nobody takes one for the other"
            )


_NUMBERED = re.compile(r"v(\d+)")
_TAG = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")


def next_tag(tags: Iterable[str]) -> str:
    """The number after the highest.

    >>> next_tag(["v1", "v10", "final"])
    'v11'
    """
    numbers = [int(match[1]) for tag in tags if (match := _NUMBERED.fullmatch(tag))]
    return f"v{max(numbers, default=0) + 1}"


def check_tag(tag: str | None) -> None:
    """ValueError for what git, a URL or a folder's name would not take."""
    if tag is not None and (
        not _TAG.fullmatch(tag) or ".." in tag or tag.endswith(".lock") or tag == "main"
    ):
        raise ValueError(f"--tag is {tag!r}; use letters, digits, . _ and -, such as v1 or 2026-01")


IGNORING = ".gitignore"
_AT_ONCE = 256
_SAMPLE_BYTES = 512


def require_no_ignored(
    remote: RemoteRepository, branch: str, files: Mapping[str, Path | bytes]
) -> None:
    """ValueError that names the files that would not arrive on that branch."""
    if not any(PurePosixPath(path).name == IGNORING for path in remote.paths):
        return
    if ignored := list(_ignored(remote, branch, files)):
        raise ValueError(
            f"the {IGNORING} of {remote.name} keeps out {shorten_list(ignored)}; take it away there, or "
            "its lines that name them"
        )


def _ignored(
    remote: RemoteRepository, branch: str, files: Mapping[str, Path | bytes]
) -> Iterator[str]:
    repo, names = remote.repo, sorted(files)
    place = f"{repo.repo_type}s/{repo.repo_id}/preupload/{quote(branch, safe='')}"
    for start in range(0, len(names), _AT_ONCE):
        asked = [
            {
                "path": name,
                "sample": b64encode(read_bytes(files[name], _SAMPLE_BYTES)).decode(),
                "size": total_size(files[name]),
            }
            for name in names[start : start + _AT_ONCE]
        ]

        def answer(asked: list[dict[str, object]] = asked) -> list[dict[str, object]]:
            found = post(f"{remote.api.endpoint}/api/{place}", {"files": asked})
            return list(found["files"])

        for each in request("asking what is ignored", answer, repo.repo_id, remote.report):
            if each.get("shouldIgnore"):
                yield str(each["path"])
