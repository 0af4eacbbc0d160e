"""Names of tags: v1, v2 and so on, unless somebody names one."""

import re
from collections.abc import Iterable

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
