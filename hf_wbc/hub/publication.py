"""What is published: files by their place, who may see them, and under which tag.

Where a publication goes: a repository on the Hub, or a folder that others load from.

What was published last, written beside it: so that the next publication knows what is its own.

Files that others put there stay, ours that are no more are deleted, and a card that somebody edited
is recognised."""

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

Kind = Literal["dataset", "model", "metric", "space", "study"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REPO_TYPES: dict[Kind, str] = {
    "dataset": "dataset",
    "model": "model",
    "metric": "space",
    "space": "space",
    "study": "dataset",
}
"""What each kind is on the Hub; `evaluate` loads a metric from a Space."""

_SCHEME = "hf://"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})", re.ASCII)


@dataclass(frozen=True)
class HubRepo:
    """A repository on the Hub."""

    repo_id: str
    """`org/name`."""
    repo_type: str
    """`dataset`, `model` or `space`."""

    def __str__(self) -> str:
        return self.repo_id

    @property
    def owner(self) -> str:
        return self.repo_id.partition("/")[0]


@dataclass(frozen=True)
class PublishFolder:
    """A folder; tag v1 of it is its neighbour FOLDER@v1."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def tagged(self, tag: str) -> Path:
        return self.path.with_name(f"{self.path.name}@{tag}")


Destination = HubRepo | PublishFolder


def parse_destination(to: str, kind: Kind) -> Destination:
    """`org/name` or `hf://org/name` is on the Hub; every other path is a folder.

    ValueError for what could be either, and for no name of a repository: images must not leave
    the house because somebody meant a folder.
    """
    if to.startswith(_SCHEME):
        repo = to.removeprefix(_SCHEME)
        for prefix in ("datasets/", "spaces/", "models/"):
            repo = repo.removeprefix(prefix)
        _check(repo, to)
        return HubRepo(repo, REPO_TYPES[kind])
    match = _REPO.fullmatch(to)
    if not match:
        if not to.strip() or "@" in Path(to).name:
            raise ValueError(
                f"--to is {to!r}; give org/name for the Hub or a folder such as ./{kind}, and a "
                "version by --tag"
            )
        return PublishFolder(Path(to).expanduser().absolute())
    if Path(match["owner"]).is_dir():
        raise ValueError(
            f"--to {to} may be a folder here or a repository on the Hub; write ./{to} for the "
            f"folder, or hf://{to} for the Hub"
        )
    _check(to, to)
    return HubRepo(to, REPO_TYPES[kind])


def _check(repo: str, to: str) -> None:
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise ValueError(
            f"--to {to} is no name of a repository; give org/name, of letters, digits, single "
            "- and ., and _"
        )


CARD = "README.md"
TAG = "{tag-of-this-publication}"
"""Stands in a card for the tag under which others load it, which is known when it is published."""


@dataclass(frozen=True)
class Publication:
    """A complete state of a repository; `dataset_publication` and its like build one."""

    kind: Kind
    files: Mapping[str, Path | bytes]
    """By path in the repository, with /: a file on disk, or the bytes themselves."""
    public: bool
    """Whether anybody may see it. False where a licence asks for it, or on request."""
    message: str
    """The commit's title, one line."""
    tag: str | None = None
    """None: the next of v1, v2 and so on."""
    subject: str = ""
    """What it is of, such as the domain, where another subject must not take its place."""
    _read: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)
    """SHA-256 of the files that were read."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes by path, in alphabetical order."""
        return {path: total_size(self.files[path]) for path in sorted(self.files)}

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 in hex by path, in alphabetical order; every file is read once."""
        new = [file for file in self.files.values() if isinstance(file, Path)]
        new = [file for file in new if file not in self._read]
        with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
            self._read.update(zip(new, pool.map(file_sha256, new), strict=True))
        return {
            path: self._read[file] if isinstance(file, Path) else file_sha256(file)
            for path, file in sorted(self.files.items())
        }

    def pinned(self, tag: str) -> Self:
        """The same under that tag, which its card names; no file is read again."""
        card = read_bytes(self.files[CARD]).replace(TAG.encode(), tag.encode())
        return replace(self, files={**self.files, CARD: card}, tag=tag)


def is_public_requested(public: bool, private: bool) -> bool | None:
    """What two flags ask for; None where neither is given. ValueError for both."""
    if public and private:
        raise ValueError("--public and --private exclude each other; leave one of them out")
    return public if public or private else None


def total_size(file: Path | bytes) -> int:
    """Number of bytes."""
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def file_sha256(file: Path | bytes) -> str:
    """Hex digest of the content."""
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_bytes(file: Path | bytes, num_bytes: int = -1) -> bytes:
    """The whole content, or its beginning."""
    if isinstance(file, bytes):
        return file if num_bytes < 0 else file[:num_bytes]
    with file.open("rb") as opened:
        return opened.read(num_bytes)


def format_size(num_bytes: int) -> str:
    """`1.2 GB`.

    >>> size_words(1_240_000_000)
    '1.2 GB'
    """
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.1f} {unit}"
    return f"{num_bytes} bytes"


MANIFEST = ".hf_wbc.json"


@dataclass(frozen=True)
class Manifest:
    """The files of a publication."""

    kind: str
    files: Mapping[str, str]
    """SHA-256 by path; the card's is of the card as it was rendered, before any hand touched it."""
    subject: str = ""

    @classmethod
    def of(cls, publication: Publication) -> Self:
        return cls(publication.kind, publication.digests, publication.subject)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """ValueError when it is damaged."""
        try:
            values = json.loads(data)
            files = {str(path): str(digest) for path, digest in values["files"].items()}
            return cls(str(values["kind"]), files, str(values.get("subject", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{MANIFEST} of {where} is damaged ({error}); delete it there, and publish again"
            ) from error

    def to_bytes(self) -> bytes:
        values = {
            "kind": self.kind,
            "subject": self.subject,
            "files": dict(sorted(self.files.items())),
        }
        return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
