"""A card that somebody edited where it was published: refused with a diff, kept, or replaced."""

import difflib
from typing import Literal

from hf_wbc.hub.publication import CARD

Card = Literal["refuse", "keep", "replace"]
"""What to do about an edited card."""

_MAX_LINES = 40
_FENCE = "---"


def settle_card(
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
