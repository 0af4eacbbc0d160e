"""What a publication changes at its destination; the same for the Hub and for a folder."""

import difflib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from hf_wbc.hub.publication import (
    CARD,
    MANIFEST,
    Manifest,
    Publication,
    file_sha256,
    format_size,
    read_bytes,
    total_size,
)
from hf_wbc.text import parse_yaml, shorten_list

__all__ = [
    "CardPolicy",
    "Change",
    "PublishedState",
    "manifest_of",
    "plan_change",
    "resolve_card_conflict",
    "unified_diff",
]

CardPolicy = Literal["refuse", "keep", "replace"]
"""What to do about a card that was edited at the destination."""

_MAX_DIFF_LINES = 40
_FENCE = "---"
_LOADED = {
    "dataset": (".parquet", ".arrow", ".csv", ".json", ".jsonl", ".zip", ".tar"),
    "model": (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".index.json"),
}
"""Suffixes of files that a loader would read as part of the publication, by kind."""


class PublishedState(Protocol):
    """The files at a destination now."""

    @property
    def name(self) -> str:
        """The destination, for error messages."""

    @property
    def paths(self) -> Collection[str]:
        """All files."""

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing except what the Hub itself creates."""

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether this existing file has this content."""

    def read(self, path: str) -> bytes:
        """The content of a small file."""


@dataclass(frozen=True)
class Change:
    """One step from the current state of a destination to the published one."""

    files: Mapping[str, Path | bytes]
    """All published files, as they will be at the destination."""
    written: tuple[str, ...]
    """New and changed files."""
    deleted: tuple[str, ...]
    """Files of the previous publication that this one does not have."""
    foreign: tuple[str, ...]
    """Files of others, which stay."""

    @property
    def is_empty(self) -> bool:
        """Whether the destination already is in the published state."""
        return not self.written and not self.deleted

    @property
    def summary(self) -> str:
        """`3 of 10 files to send, 42.0 MB`."""
        num_bytes = sum(total_size(self.files[path]) for path in self.written)
        gone = f", {len(self.deleted)} to delete" if self.deleted else ""
        size = format_size(num_bytes)
        return f"{len(self.written)} of {len(self.files)} files to send, {size}{gone}"


def plan_change(publication: Publication, state: PublishedState, card: CardPolicy) -> Change:
    """Work out which files have to be written and deleted.

    Args:
        publication: The files to publish.
        state: The files at the destination.
        card: What to do about a card that was edited there.

    Raises:
        ValueError: Something else was published there, files of others would be loaded together
            with these, or the card was edited by hand.
    """
    before = manifest_of(state)
    if before is None:
        _refuse_overwriting(publication, state, card)
    else:
        _refuse_another(publication, before, state.name)
    files: dict[str, Path | bytes] = dict(publication.files)
    known = {*files, MANIFEST, *(before.files if before else ())}
    foreign = tuple(sorted(path for path in state.paths if path not in known))
    _refuse_mixed(publication, foreign, state.name)
    if CARD in state.paths and not state.is_untouched:
        current, new = state.read(CARD), read_bytes(publication.files[CARD])
        unedited = before is not None and file_sha256(current) == before.files.get(CARD)
        files[CARD] = resolve_card_conflict(current, new, unedited, card, state.name)
    digests = {**publication.digests, CARD: file_sha256(files[CARD])}
    files[MANIFEST] = Manifest.of(publication).to_bytes()
    digests[MANIFEST] = file_sha256(files[MANIFEST])
    written = [
        path
        for path, content in sorted(files.items())
        if not (path in state.paths and state.holds(path, content, digests[path]))
    ]
    gone = [path for path in (before.files if before else ()) if path not in files]
    return Change(
        files=files,
        written=tuple(written),
        deleted=tuple(sorted(path for path in gone if path in state.paths)),
        foreign=foreign,
    )


def manifest_of(state: PublishedState) -> Manifest | None:
    """What was published there last, or None; ValueError if the manifest is damaged."""
    if MANIFEST not in state.paths:
        return None
    return Manifest.from_bytes(state.read(MANIFEST), state.name)


def resolve_card_conflict(
    current: bytes, new: bytes, unedited: bool, policy: CardPolicy, name: str
) -> bytes:
    """The card to publish.

    Args:
        current: The card at the destination.
        new: The card of this publication. If it has no text yet, an error shows no difference.
        unedited: Whether `current` is as it was rendered. If so, `new` replaces it.
        policy: For an edited card: `replace` takes the new one. `keep` takes the current text,
            and of the front matter, which tells libraries what to load, the new values and the
            keys that only the current one has.
        name: The destination, for the error.

    Raises:
        ValueError: The card was edited and `policy` is `refuse`; the message shows the difference.
    """
    if current == new or unedited or policy == "replace":
        return new
    if policy == "keep":
        return _merge(current.decode("utf-8", "replace"), new.decode()).encode()
    message = (
        f"{CARD} of {name} was edited there and would be overwritten; --card keep keeps its "
        "text, --card replace overwrites it"
    )
    if _split(new.decode())[1].strip():
        lines = unified_diff(current.decode("utf-8", "replace"), new.decode())
        message += f". The difference:\n{lines}"
    raise ValueError(message)


def unified_diff(current: str, new: str) -> str:
    """A unified diff, truncated if it is long."""
    lines = [
        line.rstrip("\n")
        for line in difflib.unified_diff(
            current.splitlines(), new.splitlines(), "published", "to be published", lineterm="", n=1
        )
    ]
    rest = len(lines) - _MAX_DIFF_LINES
    more = [f"... and {rest} more lines"] if rest > 0 else []
    return "\n".join([*lines[:_MAX_DIFF_LINES], *more])


def _merge(current: str, new: str) -> str:
    """The current text under the new front matter, plus the keys that only the current one has."""
    import yaml

    new_front, _ = _split(new)
    current_front, current_text = _split(current)
    known, extra = yaml.safe_load(new_front) or {}, {}
    with suppress(ValueError):
        extra = parse_yaml(current_front, CARD)
    extra = extra if isinstance(extra, dict) else {}
    only = {key: value for key, value in extra.items() if key not in known}
    more = yaml.safe_dump(only, sort_keys=False, allow_unicode=True) if only else ""
    return f"{_FENCE}\n{new_front}{more}{_FENCE}\n{current_text}"


def _split(card: str) -> tuple[str, str]:
    """Front matter without its fences, and the text after it."""
    lines = card.replace("\r\n", "\n").splitlines(keepends=True)
    if not lines or lines[0].rstrip() != _FENCE:
        return "", card
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        return "", card
    return "".join(lines[1:end]), "".join(lines[end + 1 :])


def _refuse_another(publication: Publication, before: Manifest, name: str) -> None:
    """ValueError if a publication of another kind or subject is there."""
    if before.kind != publication.kind:
        raise ValueError(
            f"{name} contains a {before.kind}, and this is a {publication.kind}; choose another "
            "--to"
        )
    if before.subject != publication.subject:
        raise ValueError(
            f"{name} contains the {before.kind} {before.subject}, and this is "
            f"{publication.subject}; choose another --to"
        )


def _refuse_overwriting(publication: Publication, state: PublishedState, card: CardPolicy) -> None:
    """ValueError for files of the same names that hf-wbc did not publish."""
    if state.is_untouched or card == "replace":
        return
    foreign = [
        path
        for path, content in sorted(publication.files.items())
        if path != CARD
        and path in state.paths
        and not state.holds(path, content, publication.digests[path])
    ]
    if foreign:
        raise ValueError(
            f"{state.name} contains {shorten_list(foreign)} with other content, which `hf-wbc "
            "publish` did not write; choose another --to, or overwrite them with --card replace"
        )


def _refuse_mixed(publication: Publication, foreign: Collection[str], name: str) -> None:
    """ValueError for foreign files in folders that the loader of this kind reads."""
    folders = {PurePosixPath(path).parent for path in publication.files}
    mixed = [
        path
        for path in foreign
        if path.endswith(_LOADED.get(publication.kind, ()))
        and PurePosixPath(path).parent in folders
    ]
    if mixed:
        raise ValueError(
            f"{name} contains {shorten_list(mixed)}, which `hf-wbc publish` did not write and "
            f"which would be loaded as part of this {publication.kind}; delete it there, or choose "
            "another --to"
        )
