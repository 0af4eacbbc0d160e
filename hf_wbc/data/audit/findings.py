"""A finding: what was seen, what it means, what to do, and whether the source said so before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["undeclared", "declared", "expected"]
"""News; known to the source or handled when the folder was built; a property of the task."""

KINDS = {
    "two_labels": "one image stands under two labels",
    "identical_across_splits": "the same image lies in two splits",
    "overlapping_across_splits": "frames that share a scene lie in two splits",
    "group_across_splits": "one patient, slide or session lies in two splits",
    "identical": "the same image is there more than once",
    "overlapping": "several frames share a scene",
    "shared_between_datasets": "two datasets share images",
    "frame_sizes": "frames of several sizes, perhaps several sessions",
    "background_class": "the background gives the class away",
    "class_missing_in_split": "a split lacks a class that the dataset has",
}
"""Kinds that a source may declare: `declared={"background_class": "a sentence"}`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a reader should know before training."""

    kind: str
    """One of `KINDS`, or of the expected kinds that no source needs to declare."""
    domains: tuple[str, ...]
    number: int
    """How often, in images, pairs or classes as `title` says."""
    title: str
    meaning: str
    remedy: str
    status: Status = "undeclared"
    declared: str = ""
    """Where it was said before."""
    rows: tuple[tuple[int, ...], ...] = ()
    """Rows that show it, some that belong together at a time; undeclared ones first."""


def check_declared(declared: Mapping[str, str]) -> None:
    """ValueError for a declaration of a kind that no finding has, or without a sentence."""
    for kind, sentence in declared.items():
        if kind not in KINDS:
            raise ValueError(f"unknown finding {kind!r}; choose from {', '.join(KINDS)}")
        if not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(f"the declaration of {kind} is empty; say in a sentence what is known")


def with_declaration(finding: Finding, declarations: Mapping[str, Mapping[str, str]]) -> Finding:
    """The finding as declared when a source of its domains declares its kind.

    `declarations` maps a domain to its source's `declared`.
    """
    if finding.status != "undeclared":
        return finding
    for domain in finding.domains:
        if sentence := declarations.get(domain, {}).get(finding.kind):
            values: dict[str, Any] = {**vars(finding), "status": "declared", "declared": sentence}
            return Finding(**values)
    return finding
