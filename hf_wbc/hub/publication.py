"""What is published, where to, and the manifest that describes what was published last."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, get_args

__all__ = [
    "CARD",
    "KINDS",
    "MANIFEST",
    "REPO_TYPES",
    "TAG",
    "Destination",
    "HubRepo",
    "Kind",
    "Manifest",
    "Publication",
    "PublishFolder",
    "check_tag",
    "file_sha256",
    "format_size",
    "is_public_requested",
    "next_tag",
    "parse_destination",
    "read_bytes",
    "total_size",
]

Kind = Literal["dataset", "model", "metric", "space", "study", "leaderboard"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REPO_TYPES: dict[Kind, str] = {
    "dataset": "dataset",
    "model": "model",
    "metric": "space",
    "space": "space",
    "study": "dataset",
    "leaderboard": "space",
}
"""The repository type of each kind on the Hub; `evaluate` loads a metric from a Space."""

CARD = "README.md"
MANIFEST = ".hf_wbc.json"
TAG = "{tag-of-this-publication}"
"""Placeholder in a card for the tag, which is only known when the card is published."""

_SCHEME = "hf://"
_FOLDER = ("./", "../", "/", "~")
"""Beginnings of what can only be a folder."""
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})", re.ASCII)
_NUMBERED = re.compile(r"v(\d+)")
_TAG = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")


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
        """The user or organization."""
        return self.repo_id.partition("/")[0]


@dataclass(frozen=True)
class PublishFolder:
    """A folder; its tag v1 is the folder FOLDER@v1 beside it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def tagged(self, tag: str) -> Path:
        """The folder of a tag."""
        return self.path.with_name(f"{self.path.name}@{tag}")


Destination = HubRepo | PublishFolder


def parse_destination(to: str, kind: Kind) -> Destination:
    """Parse `--to`: `org/name` or `hf://org/name` is on the Hub, any other path is a folder.

    Args:
        to: The repository or folder.
        kind: What is published, which decides the repository's type.

    Raises:
        ValueError: `to` could be either, or is not a valid repository name. Images must not
            leave the hospital because someone meant a folder.
    """
    if to.startswith(_SCHEME):
        repo = to.removeprefix(_SCHEME)
        for prefix in ("datasets/", "spaces/", "models/"):
            repo = repo.removeprefix(prefix)
        _check_repo_name(repo, to)
        return HubRepo(repo, REPO_TYPES[kind])
    match = _REPO.fullmatch(to)
    if not match:
        if not to.strip() or "@" in Path(to).name:
            raise ValueError(
                f"--to is {to!r}; give org/name for the Hub or a folder such as ./{kind}, and the "
                "version with --tag"
            )
        owner, *rest = Path(to).parts
        if len(rest) == 1 and not to.startswith(_FOLDER) and not Path(owner).is_dir():
            raise ValueError(
                f"--to is {to!r}, which is no valid repository name; give org/name, using letters, "
                f"digits, underscores, and single hyphens and dots, or ./{to} for a folder"
            )
        return PublishFolder(Path(to).expanduser().absolute())
    if Path(match["owner"]).is_dir():
        raise ValueError(
            f"--to {to} is ambiguous; write ./{to} for a folder, or hf://{to} for the Hub"
        )
    _check_repo_name(to, to)
    return HubRepo(to, REPO_TYPES[kind])


def _check_repo_name(repo: str, to: str) -> None:
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise ValueError(
            f"--to {to} is not a valid repository name; give org/name, using letters, digits, "
            "underscores, and single hyphens and dots"
        )


@dataclass(frozen=True)
class Publication:
    """The complete content of a repository; `dataset_publication` and others build one."""

    kind: Kind
    files: Mapping[str, Path | bytes]
    """By path in the repository, with /: a file on disk, or the content itself."""
    public: bool
    """Whether anyone may see it; False if a license or the user requires it."""
    message: str
    """The commit's title, one line."""
    tag: str | None = None
    """None: the next of v1, v2 and so on."""
    subject: str = ""
    """The content's name, such as the domain. Another subject may not replace this one."""
    _read: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)
    """SHA-256 of the files read so far."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes by path, in alphabetical order."""
        return {path: total_size(self.files[path]) for path in sorted(self.files)}

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 in hex by path, in alphabetical order; each file is read once."""
        new = [file for file in self.files.values() if isinstance(file, Path)]
        new = [file for file in new if file not in self._read]
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
            self._read.update(zip(new, pool.map(file_sha256, new), strict=True))
        return {
            path: self._read[file] if isinstance(file, Path) else file_sha256(file)
            for path, file in sorted(self.files.items())
        }

    def pinned(self, tag: str) -> Self:
        """The same publication under a tag, which its card names; no file is read again."""
        card = read_bytes(self.files[CARD]).replace(TAG.encode(), tag.encode())
        return replace(self, files={**self.files, CARD: card}, tag=tag)


@dataclass(frozen=True)
class Manifest:
    """The files of a publication, stored beside them.

    The next publication reads it to tell its own files from those of others, to delete files that
    it no longer has, and to notice a card edited by hand.
    """

    kind: str
    files: Mapping[str, str]
    """SHA-256 by path; for the card, of the card as it was rendered, before any edit."""
    subject: str = ""

    @classmethod
    def of(cls, publication: Publication) -> Self:
        """The manifest of a publication."""
        return cls(publication.kind, publication.digests, publication.subject)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Parse the manifest of the destination `name`; ValueError if it is damaged."""
        try:
            values = json.loads(data)
            files = {str(path): str(digest) for path, digest in values["files"].items()}
            return cls(str(values["kind"]), files, str(values.get("subject", "")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{MANIFEST} of {name} is damaged ({error}); delete it there, and publish again"
            ) from error

    def to_bytes(self) -> bytes:
        """The manifest as JSON."""
        values = {
            "kind": self.kind,
            "subject": self.subject,
            "files": dict(sorted(self.files.items())),
        }
        return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def is_public_requested(public: bool, private: bool) -> bool | None:
    """What --public and --private request; None if neither is given, ValueError for both."""
    if public and private:
        raise ValueError("--public and --private exclude each other; omit one of them")
    return public if public or private else None


def next_tag(tags: Iterable[str]) -> str:
    """The tag with the number after the highest.

    >>> next_tag(["v1", "v10", "final"])
    'v11'
    """
    numbers = [int(match[1]) for tag in tags if (match := _NUMBERED.fullmatch(tag))]
    return f"v{max(numbers, default=0) + 1}"


def check_tag(tag: str | None) -> None:
    """ValueError for a tag that is not valid in git, in a URL or as part of a folder name."""
    if tag is not None and (
        not _TAG.fullmatch(tag) or ".." in tag or tag.endswith(".lock") or tag == "main"
    ):
        raise ValueError(f"--tag is {tag!r}; use letters, digits, . _ and -, such as v1 or 2026-01")


def total_size(file: Path | bytes) -> int:
    """The number of bytes."""
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def file_sha256(file: Path | bytes) -> str:
    """SHA-256 of the content, in hex."""
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_bytes(file: Path | bytes, num_bytes: int = -1) -> bytes:
    """The content, or its first `num_bytes`."""
    if isinstance(file, bytes):
        return file if num_bytes < 0 else file[:num_bytes]
    with file.open("rb") as opened:
        return opened.read(num_bytes)


def format_size(num_bytes: int) -> str:
    """`1.2 GB`.

    >>> format_size(1_240_000_000)
    '1.2 GB'
    """
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.1f} {unit}"
    return f"{num_bytes} bytes"
