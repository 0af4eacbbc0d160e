"""File-based repositories: a commit lists all of its files, and a digest names each file.

ROOT/datasets/org/name/
    repo.json            visibility, gate, sdk
    commits/OID.json     parent, title, date, and the digest and size of each path
    refs/heads/main      the id of a commit; refs/tags/v1 likewise
    blobs/SHA1           small files, by git digest
    lfs/SHA256           large files
    parts/SHA256/00001   received parts of a multipart upload
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from support.hub_server.people import Refusal

LFS_SUFFIXES = (
    ".parquet", ".safetensors", ".bin", ".npz", ".npy", ".arrow", ".whl", ".zip", ".tar", ".gz",
    ".png", ".jpg", ".onnx", ".pt", ".pth", ".pkl",
)  # fmt: skip
MAX_REGULAR = 10_000_000
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Entry:
    """A file of a commit."""

    path: str
    oid: str
    """Git SHA-1 of the file, or of its LFS pointer."""
    size: int
    sha256: str | None = None
    """SHA-256 of an LFS file."""

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def to_api(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "type": "file", "path": self.path, "size": self.size, "oid": self.oid,
        }  # fmt: skip
        if self.sha256:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        return entry


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer_sha1(sha256: str, size: int) -> str:
    return git_sha1(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_bytes(data)
    temporary.replace(path)


class Repo:
    """One repository."""

    def __init__(self, path: Path, plural: str, repo_id: str) -> None:
        self.path, self.plural, self.repo_id = path, plural, repo_id

    @property
    def owner(self) -> str:
        return self.repo_id.partition("/")[0]

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.path / "repo.json").read_text())
        return facts

    def update(self, **facts: object) -> None:
        known = self.facts if (self.path / "repo.json").exists() else {}
        write_atomically(self.path / "repo.json", json.dumps({**known, **facts}).encode())

    def refs(self, kind: str) -> dict[str, str]:
        """Return commits by name; `kind` is heads or tags."""
        folder = self.path / "refs" / kind
        files = sorted(f for f in folder.glob("*") if not f.name.startswith("."))
        return {
            json.loads(f.read_text())["name"]: json.loads(f.read_text())["commit"] for f in files
        }

    def set_ref(self, kind: str, name: str, commit: str) -> None:
        place = self.path / "refs" / kind / quote(name, safe="")
        write_atomically(place, json.dumps({"name": name, "commit": commit}).encode())

    def delete_ref(self, kind: str, name: str) -> None:
        place = self.path / "refs" / kind / quote(name, safe="")
        if not place.exists():
            raise Refusal(404, f"{name} does not exist", "RevisionNotFound")
        place.unlink()

    def resolve(self, revision: str) -> str:
        """Resolve a branch, a tag, or a commit id to a commit id."""
        for kind in ("heads", "tags"):
            if commit := self.refs(kind).get(revision.removeprefix(f"refs/{kind}/")):
                return commit
        if (self.path / "commits" / f"{revision}.json").exists():
            return revision
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit_info(self, oid: str) -> dict[str, Any]:
        info: dict[str, Any] = json.loads((self.path / "commits" / f"{oid}.json").read_text())
        return info

    def files(self, revision: str) -> dict[str, Entry]:
        """Return all files of a revision by path."""
        found = self.commit_info(self.resolve(revision))["files"]
        return {path: Entry(path, *facts) for path, facts in sorted(found.items())}

    def history(self, revision: str) -> Iterator[dict[str, Any]]:
        """Return commits, newest first, each with its `id`."""
        oid: str | None = self.resolve(revision)
        while oid:
            info = self.commit_info(oid)
            yield {"id": oid, **info}
            oid = info["parent"]

    def read(self, entry: Entry) -> Path:
        """Return the path of the stored bytes of a file."""
        return self.path / ("lfs" if entry.sha256 else "blobs") / entry.etag

    def content(self, revision: str, path: str) -> bytes:
        return self.read(self.files(revision)[path]).read_bytes()

    def add_blob(self, path: str, data: bytes) -> Entry:
        oid = git_sha1(data)
        if not (self.path / "blobs" / oid).exists():
            write_atomically(self.path / "blobs" / oid, data)
        return Entry(path, oid, len(data))

    def lfs_entry(self, path: str, sha256: str, size: int) -> Entry:
        place = self.path / "lfs" / sha256
        if not place.exists() or place.stat().st_size != size:
            raise Refusal(400, f"The LFS object {sha256} of {path} was not uploaded")
        return Entry(path, pointer_sha1(sha256, size), size, sha256)

    def commit(
        self,
        branch: str,
        changes: Mapping[str, Entry | None],
        title: str,
        author: str,
        parent: str | None = None,
    ) -> str:
        """Add files, and delete those that are None; Refusal 412 if `parent` is not the head."""
        with _LOCK:
            heads = self.refs("heads")
            head = heads.get(branch)
            if head is None and heads:
                raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            if parent is not None and parent != head:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = self.files(head) if head else {}
            for path, entry in changes.items():
                if entry is None and not files.pop(path, None):
                    raise Refusal(
                        404, f"A file with this name doesn't exist: {path}", "EntryNotFound"
                    )
                if entry is not None:
                    files[path] = entry
            record = {
                "parent": head,
                "title": title,
                "author": author,
                "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "files": {path: [e.oid, e.size, e.sha256] for path, e in sorted(files.items())},
            }
            data = json.dumps(record).encode()
            oid = hashlib.sha1(data).hexdigest()
            write_atomically(self.path / "commits" / f"{oid}.json", data)
            self.set_ref("heads", branch, oid)
            return oid


class Store:
    """All repositories under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repo(self, plural: str, repo_id: str) -> Repo:
        """Return a repository, which may not exist yet; `plural` is models, datasets, or spaces."""
        return Repo(self.root / plural / repo_id, plural, repo_id)

    def find(self, plural: str, repo_id: str) -> Repo | None:
        repo = self.repo(plural, repo_id)
        return repo if (repo.path / "repo.json").exists() else None

    def all(self, plural: str) -> list[Repo]:
        files = sorted((self.root / plural).glob("*/*/repo.json"))
        return [self.repo(plural, "/".join(f.parts[-3:-1])) for f in files]

    def create(
        self, plural: str, repo_id: str, *, private: bool, sdk: str | None, author: str
    ) -> Repo:
        """Create a repository with the Hub's initial commit, which adds a README to a Space."""
        with _LOCK:
            if self.find(plural, repo_id):
                raise Refusal(409, f"You already created this {plural[:-1]} repo: {repo_id}")
            repo = self.repo(plural, repo_id)
            attributes = "".join(
                f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in LFS_SUFFIXES
            )
            files = {".gitattributes": repo.add_blob(".gitattributes", attributes.encode())}
            if plural == "spaces":
                card = (
                    f"---\ntitle: {repo_id.partition('/')[2]}\nsdk: {sdk}\n---\n\nSee the docs.\n"
                )
                files["README.md"] = repo.add_blob("README.md", card.encode())
            repo.commit("main", files, "initial commit", author)
            repo.update(private=private, gated=False, sdk=sdk)
            return repo
