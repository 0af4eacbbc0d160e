"""What is published: files by their place, who may see them, and under which tag."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from hf_wbc.hub.destination import Kind

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
        return {path: size_of(self.files[path]) for path in sorted(self.files)}

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 in hex by path, in alphabetical order; every file is read once."""
        new = [file for file in self.files.values() if isinstance(file, Path)]
        new = [file for file in new if file not in self._read]
        with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
            self._read.update(zip(new, pool.map(sha256_of, new), strict=True))
        return {
            path: self._read[file] if isinstance(file, Path) else sha256_of(file)
            for path, file in sorted(self.files.items())
        }

    def pinned(self, tag: str) -> Self:
        """The same under that tag, which its card names; no file is read again."""
        card = bytes_of(self.files[CARD]).replace(TAG.encode(), tag.encode())
        return replace(self, files={**self.files, CARD: card}, tag=tag)


def asked_public(public: bool, private: bool) -> bool | None:
    """What two flags ask for; None where neither is given. ValueError for both."""
    if public and private:
        raise ValueError("--public and --private exclude each other; leave one of them out")
    return public if public or private else None


def size_of(file: Path | bytes) -> int:
    """Number of bytes."""
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def sha256_of(file: Path | bytes) -> str:
    """Hex digest of the content."""
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def bytes_of(file: Path | bytes, num_bytes: int = -1) -> bytes:
    """The whole content, or its beginning."""
    if isinstance(file, bytes):
        return file if num_bytes < 0 else file[:num_bytes]
    with file.open("rb") as opened:
        return opened.read(num_bytes)


def size_words(num_bytes: int) -> str:
    """`1.2 GB`.

    >>> size_words(1_240_000_000)
    '1.2 GB'
    """
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.1f} {unit}"
    return f"{num_bytes} bytes"
