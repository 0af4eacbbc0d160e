"""A repository on the Hub as it is now, and what the token may do there."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hf_wbc.data.hub_cache import NOT_OF_A_HUB, not_a_hub
from hf_wbc.hub.client import OnEvent, get, post, request
from hf_wbc.hub.publication import HubRepo, read_bytes, total_size
from hf_wbc.text import shorten_list

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "MAIN",
    "RemoteRepository",
    "inspect_repository",
    "require_account",
    "require_none_ignored",
    "require_repo_type",
    "require_write",
]

MAIN = "main"
_IGNORE_FILE = ".gitignore"
_FILES_PER_REQUEST = 256
_SAMPLE_BYTES = 512


@dataclass(frozen=True)
class RemoteRepository:
    """One revision of a repository; implements `PublishedState`."""

    repo: HubRepo
    head: str
    """The commit id."""
    private: bool
    entries: Mapping[str, Any]
    """The Hub's metadata of each file, by path."""
    is_untouched: bool
    """Whether there is only the initial commit, which the Hub creates."""
    api: "HfApi" = field(repr=False)
    on_event: OnEvent = field(repr=False)

    @property
    def name(self) -> str:
        """`org/name`."""
        return self.repo.repo_id

    @property
    def paths(self) -> frozenset[str]:
        """All files."""
        return frozenset(self.entries)

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether the file has this content; a small one is compared by its git blob id."""
        entry = self.entries[path]
        if entry.lfs is not None:
            return bool(entry.lfs.sha256 == sha256)
        if entry.size != total_size(content):
            return False
        data = read_bytes(content)
        return bool(entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())

    def read(self, path: str) -> bytes:
        """The content of a small file, bypassing every cache."""
        from huggingface_hub import hf_hub_url

        def fetch() -> bytes:
            url = hf_hub_url(
                self.repo.repo_id, path, repo_type=self.repo.repo_type, revision=self.head,
                endpoint=self.api.endpoint,
            )  # fmt: skip
            return get(url)[1]

        return request(f"reading {path}", fetch, self.name, self.on_event)

    @cached_property
    def tags(self) -> dict[str, str]:
        """Commit ids by tag."""
        refs = request(
            "reading the tags",
            lambda: self.api.list_repo_refs(self.repo.repo_id, repo_type=self.repo.repo_type),
            self.name,
            self.on_event,
        )
        return {ref.name: ref.target_commit for ref in refs.tags}


def inspect_repository(
    api: "HfApi", repo: HubRepo, revision: str, on_event: OnEvent
) -> RemoteRepository | None:
    """The repository at a branch, tag or commit; None if it does not exist.

    Raises:
        ValueError: The repository is gated or disabled.
        OSError: The Hub cannot be reached.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    def info() -> Any:
        try:
            return api.repo_info(repo.repo_id, repo_type=repo.repo_type, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            if _is_gated(error):
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

    found = request("reading the repository", info, repo.repo_id, on_event)
    if found is None:
        return None
    entries = request("listing the files", files, repo.repo_id, on_event)
    is_untouched = (
        len(entries) <= 2
        and request("reading the history", num_commits, repo.repo_id, on_event) == 1
    )
    return RemoteRepository(
        repo=repo,
        head=str(found.sha),
        private=bool(found.private),
        entries=entries,
        is_untouched=is_untouched,
        api=api,
        on_event=on_event,
    )


def _is_gated(error: Any) -> bool:
    """Whether the repository exists but this account has no access."""
    return bool(error.response.headers.get("X-Error-Code") == "GatedRepo")


def require_account(api: "HfApi", repo: HubRepo, on_event: OnEvent) -> None:
    """ValueError if there is no valid token that can write to the owner's repositories."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise ValueError(
            f"there is no token for {constants.ENDPOINT}; log in with `hf auth login`, or set "
            "HF_TOKEN to a token with write access"
        )

    def whoami() -> dict[str, Any]:
        try:
            return dict(api.whoami())
        except HfHubHTTPError as error:
            if error.response.status_code == 401:
                raise ValueError(
                    f"{constants.ENDPOINT} rejects the token; log in again with `hf auth login`, "
                    "or set HF_TOKEN to a valid token"
                ) from error
            raise

    account = request("identifying the account", whoami, repo.repo_id, on_event)
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise ValueError(
            f"the token of {account['name']} is read-only; create one with write access in your "
            "account's settings, and log in with it: `hf auth login`"
        )
    try:
        names = [account["name"], *(org["name"] for org in account.get("orgs", []))]
    except NOT_OF_A_HUB as error:
        raise ValueError(not_a_hub(error)) from error
    if repo.owner not in names:
        raise ValueError(
            f"{repo.repo_id} would belong to {repo.owner}, and {account['name']} is not a member "
            f"there; choose from {', '.join(names)}"
        )


def require_write(remote: RemoteRepository) -> None:
    """ValueError if a fine-grained token may not write to this repository."""
    from huggingface_hub.errors import HfHubHTTPError

    def check() -> None:
        try:
            remote.api.auth_check(remote.name, repo_type=remote.repo.repo_type, write=True)
        except HfHubHTTPError as error:
            if error.response.status_code not in (404, 405):  # this server has no such check
                raise

    request("checking write access", check, remote.name, remote.on_event)


def require_repo_type(api: "HfApi", repo: HubRepo, on_event: OnEvent) -> None:
    """ValueError if a repository of another type has this name.

    The Hub would keep both the model `org/x` and the dataset `org/x`, and people would confuse
    them. Usually the user meant another --to.
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

        if other != repo.repo_type and request("checking the name", exists, repo.repo_id, on_event):
            raise ValueError(
                f"{repo.repo_id} is a {other} on the Hub, and this would be a {repo.repo_type} of "
                "the same name; choose another --to"
            )


def require_none_ignored(
    remote: RemoteRepository, branch: str, files: Mapping[str, Path | bytes]
) -> None:
    """ValueError that lists files which a .gitignore in the repository keeps out of a commit.

    The client would drop them silently, so ask the server, which applies it, before sending.
    """
    if not any(PurePosixPath(path).name == _IGNORE_FILE for path in remote.paths):
        return
    if ignored := list(_ignored(remote, branch, files)):
        raise ValueError(
            f"the {_IGNORE_FILE} of {remote.name} excludes {shorten_list(ignored)}; delete it "
            "there, or remove the lines that match them"
        )


def _ignored(
    remote: RemoteRepository, branch: str, files: Mapping[str, Path | bytes]
) -> Iterator[str]:
    repo, names = remote.repo, sorted(files)
    route = f"{repo.repo_type}s/{repo.repo_id}/preupload/{quote(branch, safe='')}"
    for start in range(0, len(names), _FILES_PER_REQUEST):
        body = [
            {
                "path": name,
                "sample": b64encode(read_bytes(files[name], _SAMPLE_BYTES)).decode(),
                "size": total_size(files[name]),
            }
            for name in names[start : start + _FILES_PER_REQUEST]
        ]

        def preupload(body: list[dict[str, object]] = body) -> list[dict[str, object]]:
            return list(post(f"{remote.api.endpoint}/api/{route}", {"files": body})["files"])

        for each in request("checking .gitignore", preupload, repo.repo_id, remote.on_event):
            if each.get("shouldIgnore"):
                yield str(each["path"])
