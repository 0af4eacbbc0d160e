"""What a publication changes at its destination; the same for the Hub and for a folder.

A card that somebody edited where it was published: refused with a diff, kept, or replaced."""

import difflib
from collections.abc import Collection, Mapping
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
from hf_wbc.text import shorten_list

Card = Literal["refuse", "keep", "replace"]
"""What to do about an edited card."""

_MAX_LINES = 40
_FENCE = "---"


def resolve_card_conflict(
    there: bytes, ours: bytes, rendered_before: bool, choice: Card, where: str
) -> bytes:
    """The card to publish, where `there` is the one in place.

    `rendered_before`: the one in place is as it was rendered, so that ours takes its place. If it
    is not, ValueError shows the difference, unless `choice` says to replace it, or to keep it: then
    the text is theirs; of the front matter, which tells the libraries what to load, what ours says
    is ours, and what only theirs says stays. Where `ours` has no text yet, no difference is shown.
    """
    if there == ours or rendered_before or choice == "replace":
        return ours
    if choice == "keep":
        return _merge(there.decode("utf-8", "replace"), ours.decode()).encode()
    words = (
        f"{CARD} of {where} was edited there, and would be overwritten; --card keep keeps its "
        "text, --card replace overwrites it"
    )
    if _split(ours.decode())[1].strip():
        lines = difference(there.decode("utf-8", "replace"), ours.decode())
        words += f". The difference:\n{lines}"
    raise ValueError(words)


def difference(there: str, ours: str) -> str:
    """A unified diff, cut where it gets long."""
    lines = [
        line.rstrip("\n")
        for line in difflib.unified_diff(
            there.splitlines(), ours.splitlines(), "published", "to be published", lineterm="", n=1
        )
    ]
    rest = len(lines) - _MAX_LINES
    return "\n".join(lines[:_MAX_LINES] + ([f"... and {rest} more lines"] if rest > 0 else []))


def _merge(there: str, ours: str) -> str:
    """Their text under our front matter and what only theirs has."""
    import yaml

    front, _ = _split(ours)
    their_front, their_text = _split(there)
    try:
        known = yaml.safe_load(front) or {}
        extra = yaml.safe_load(their_front) or {}
    except yaml.YAMLError:
        extra = {}
    only = {key: value for key, value in extra.items() if key not in known}
    more = yaml.safe_dump(only, sort_keys=False, allow_unicode=True) if only else ""
    return f"{_FENCE}\n{front}{more}{_FENCE}\n{their_text}"


def _split(card: str) -> tuple[str, str]:
    """Front matter without its fences, and text."""
    lines = card.replace("\r\n", "\n").splitlines(keepends=True)
    if not lines or lines[0].rstrip() != _FENCE:
        return "", card
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        return "", card
    return "".join(lines[1:end]), "".join(lines[end + 1 :])


_LOADED = {
    "dataset": (".parquet", ".arrow", ".csv", ".json", ".jsonl", ".zip", ".tar"),
    "model": (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".index.json"),
}
"""Files that loading would take for a part of the publication."""


class PublishedState(Protocol):
    """What is at the destination now."""

    @property
    def name(self) -> str:
        """For error messages."""
        ...

    @property
    def paths(self) -> Collection[str]: ...

    @property
    def is_untouched(self) -> bool:
        """Nobody has put anything there but the Hub itself."""
        ...

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether the file is there with this content."""
        ...

    def read(self, path: str) -> bytes:
        """A small file."""
        ...


@dataclass(frozen=True)
class Change:
    """One step from what is there to what is published."""

    files: Mapping[str, Path | bytes]
    """Everything that is published, as it will be there."""
    written: tuple[str, ...]
    """New and changed ones."""
    deleted: tuple[str, ...]
    """Of an earlier publication, and no more."""
    foreign: tuple[str, ...]
    """Files of others, which stay."""

    @property
    def is_empty(self) -> bool:
        return not self.written and not self.deleted

    @property
    def words(self) -> str:
        """`3 of 10 files to send, 42.0 MB`."""
        num_bytes = sum(total_size(self.files[path]) for path in self.written)
        gone = f", {len(self.deleted)} to delete" if self.deleted else ""
        return f"{len(self.written)} of {len(self.files)} files to send, {format_size(num_bytes)}{gone}"


def plan_change(publication: Publication, state: PublishedState, card: Card) -> Change:
    """What has to be written and deleted.

    ValueError when something else was published there, when files of others would be loaded with
    ours, and for a card that was edited by hand.
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
        there, ours = state.read(CARD), read_bytes(publication.files[CARD])
        rendered = before is not None and file_sha256(there) == before.files.get(CARD)
        files[CARD] = resolve_card_conflict(there, ours, rendered, card, state.name)
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
    """What was published there last; ValueError when it is damaged."""
    if MANIFEST not in state.paths:
        return None
    return Manifest.from_bytes(state.read(MANIFEST), state.name)


def _refuse_another(publication: Publication, before: Manifest, name: str) -> None:
    """ValueError when something of another kind, or of another subject, was published there."""
    if before.kind != publication.kind:
        raise ValueError(
            f"{name} holds a {before.kind}, and this is a {publication.kind}; choose another --to"
        )
    if before.subject != publication.subject:
        raise ValueError(
            f"{name} holds the {before.kind} {before.subject}, and this is {publication.subject}; "
            "choose another --to"
        )


def _refuse_overwriting(publication: Publication, state: PublishedState, card: Card) -> None:
    """ValueError for files of the same names in a repository that was not published by this."""
    if state.is_untouched or card == "replace":
        return
    theirs = [
        path
        for path, content in sorted(publication.files.items())
        if path != CARD
        and path in state.paths
        and not state.holds(path, content, publication.digests[path])
    ]
    if theirs:
        raise ValueError(
            f"{state.name} holds {shorten_list(theirs)} with other content, which `hf-wbc publish` did not "
            "put there; choose another --to, or overwrite them with --card replace"
        )


def _refuse_mixed(publication: Publication, foreign: Collection[str], name: str) -> None:
    """ValueError for strangers in the folders that a dataset's or a model's loader looks into."""
    folders = {PurePosixPath(path).parent for path in publication.files}
    mixed = [
        path
        for path in foreign
        if path.endswith(_LOADED.get(publication.kind, ()))
        and PurePosixPath(path).parent in folders
    ]
    if mixed:
        raise ValueError(
            f"{name} holds {shorten_list(mixed)}, which `hf-wbc publish` did not put there and which would "
            f"be loaded as a part of this {publication.kind}; delete it there, or choose another "
            "--to"
        )
