"""A source: the facts of one archive, stated once.

Each file in dataset_scripts/ defines one `SOURCE`. It states; `hf_wbc.preparation.build` checks, crops,
splits and writes.

A finding: what was seen, what it means, what to do, and whether the source said so before."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hf_wbc import taxonomy
from hf_wbc.text import did_you_mean

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


def require_declared(declared: Mapping[str, str]) -> None:
    """ValueError for a declaration of a kind that no finding has, or without a sentence."""
    for kind, sentence in declared.items():
        if kind not in KINDS:
            raise ValueError(f"unknown finding {kind!r}; {did_you_mean(kind, KINDS)}")
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


UNLABELLED = "unlabelled"
"""Stands for a class's name where nobody has named the cells; their label is -1."""


def label_id(cell_class: str) -> int:
    """The label of a class name or of `UNLABELLED`; ValueError for any other name."""
    return taxonomy.UNLABELLED if cell_class == UNLABELLED else taxonomy.class_id(cell_class)


class ReadableArchive(Protocol):
    """What a source may see of an archive: the sorted paths of its files, and their bytes."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True)
class Entry:
    """One image of an archive before it is read."""

    member: str
    """Path inside the archive."""
    image_id: str
    """The file name that the archive was published with, also where a copy changed it."""
    source_label: str
    """The archive's own class code."""
    group: str | None = None
    """Patient, slide or session, where known."""


@dataclass(frozen=True)
class KnownFault:
    """A known fault of an archive, and what is done about it."""

    image_ids: tuple[str, ...]
    kind: Literal["not_an_image", "two_labels"]
    action: Literal["skip", "train_only"]
    note: str


@dataclass(frozen=True)
class ArchiveSpec:
    """Facts of an archive."""

    name: str
    """The domain's name, `acevedo_20`."""
    repo: str
    """The dataset's repository name, `wbc-acevedo-20`."""
    title: str
    homepage: str
    license: str
    """The license identifier on the Hub, such as `cc-by-4.0`."""
    redistributable: bool
    """False: built from the owner's own copy and never published to the public."""
    citation: str
    """BibTeX."""
    description: str
    """Where and how the images were taken; a paragraph for the dataset card."""
    um_per_px: float | None
    """Scale; None says that the cell fills the frame and the scale is unknown."""
    image_id: str
    """Regular expression that a whole image id matches; it keeps patients' names out."""
    labels: Mapping[str, str | None]
    """Archive code to class name or `UNLABELLED`; None: known, and outside the eleven."""
    walk: Callable[[ReadableArchive], Iterator[Entry]]
    """The archive's images, in the order of their ids; ValueError when it is another archive."""
    archive_counts: Mapping[str, int]
    """Images in the whole archive by archive code, without declared faults that are skipped.

    Empty: not known, and not checked."""
    used_counts: Mapping[str, int]
    """Images that become rows, by class name or `UNLABELLED`; empty: not known."""
    num_images: int | None = None
    """Images in the whole archive, where `archive_counts` does not know them by code."""
    frame_px: frozenset[tuple[int, int]] = frozenset()
    """Width x height of the frames that are used; empty: every size."""
    names_sha256: str | None = None
    """SHA-256 of the sorted image ids of all rows, joined by newlines."""
    faults: tuple[KnownFault, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """Known problems and choices, one sentence each, for the dataset card."""
    declared: Mapping[str, str] = field(default_factory=dict)
    """What `hf-wbc audit` finds and is known: a kind of finding to a sentence for the card."""

    def __post_init__(self) -> None:
        require_declared(self.declared)

    def fault_of(self, image_id: str) -> KnownFault | None:
        """The declared fault of an image, if it has one."""
        return next((fault for fault in self.faults if image_id in fault.image_ids), None)
