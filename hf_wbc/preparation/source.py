"""The facts of one archive (`ArchiveSpec`) and the findings that an audit reports about it.

Each file in dataset_scripts/ defines one `SOURCE = ArchiveSpec(...)`. It only states facts;
`hf_wbc.preparation.build` checks, crops, splits and writes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hf_wbc import taxonomy
from hf_wbc.text import did_you_mean

Status = Literal["undeclared", "declared", "expected"]
"""Unknown before; known to the source or handled when the folder was built; a property of the
task."""

KINDS = {
    "two_labels": "one image has two labels",
    "identical_across_splits": "the same image is in two splits",
    "overlapping_across_splits": "overlapping frames are in two splits",
    "group_across_splits": "one patient, slide or session is in two splits",
    "identical": "the same image occurs more than once",
    "overlapping": "several frames overlap",
    "shared_between_datasets": "two datasets share images",
    "frame_sizes": "frames of several sizes, possibly several sessions",
    "background_class": "the background reveals the class",
    "class_missing_in_split": "a class of the dataset is missing from a split",
}
"""Kinds of findings that a source can declare: `declared={"background_class": "a sentence"}`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about a dataset that a reader should know before training."""

    kind: str
    """One of `KINDS`, or an expected kind that no source has to declare."""
    domains: tuple[str, ...]
    number: int
    """Number of images, pairs or classes; `title` says which."""
    title: str
    meaning: str
    remedy: str
    status: Status = "undeclared"
    declared: str = ""
    """Where the finding was stated before; empty when it was not."""
    rows: tuple[tuple[int, ...], ...] = ()
    """Example rows, grouped when they belong together; undeclared ones come first."""


def require_declared(declared: Mapping[str, str]) -> None:
    """Check that every declaration has a known kind and a sentence.

    Raises:
        ValueError: A kind is not in `KINDS`, or a sentence is empty.
    """
    for kind, sentence in declared.items():
        if kind not in KINDS:
            raise ValueError(f"unknown finding {kind!r}; {did_you_mean(kind, KINDS)}")
        if not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(
                f"the declaration of {kind} is empty; describe in a sentence what is known"
            )


def with_declaration(finding: Finding, declarations: Mapping[str, Mapping[str, str]]) -> Finding:
    """Return the finding marked as declared if the source of one of its domains declares its kind.

    Args:
        finding: The finding; returned unchanged unless its status is `undeclared`.
        declarations: The `declared` mapping of each source, by domain.
    """
    if finding.status != "undeclared":
        return finding
    for domain in finding.domains:
        if sentence := declarations.get(domain, {}).get(finding.kind):
            values: dict[str, Any] = {**vars(finding), "status": "declared", "declared": sentence}
            return Finding(**values)
    return finding


UNLABELED_CODE = "unlabelled"
"""Used in place of a class name for cells without a label; their label id is -1. Prepared datasets
contain this spelling."""


def label_id(cell_class: str) -> int:
    """Return the label id of a class name or of `UNLABELED_CODE`; ValueError for any other name."""
    return taxonomy.UNLABELED if cell_class == UNLABELED_CODE else taxonomy.class_id(cell_class)


class ReadableArchive(Protocol):
    """What a source can access of an archive: the sorted paths of its files, and their bytes."""

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""

    def read(self, name: str) -> bytes:
        """Return the bytes of one file."""


@dataclass(frozen=True)
class Entry:
    """One image of an archive, before it is read."""

    member: str
    """Path inside the archive."""
    image_id: str
    """The file name under which the archive was published, even if a copy renamed the file."""
    source_label: str
    """The archive's own class code."""
    group: str | None = None
    """Patient, slide or session, where known."""


@dataclass(frozen=True)
class KnownFault:
    """A known fault of an archive, and how it is handled."""

    image_ids: tuple[str, ...]
    kind: Literal["not_an_image", "two_labels"]
    action: Literal["skip", "train_only"]
    note: str


@dataclass(frozen=True)
class ArchiveSpec:
    """Everything the builder has to know about one archive."""

    name: str
    """Name of the domain, `acevedo_20`."""
    repo: str
    """Name of the dataset's repository, `wbc-acevedo-20`."""
    title: str
    homepage: str
    license: str
    """The license identifier on the Hub, such as `cc-by-4.0`."""
    redistributable: bool
    """False: each user builds it from their own copy, and it is never published openly."""
    citation: str
    """BibTeX."""
    description: str
    """Where and how the images were taken; one paragraph for the dataset card."""
    um_per_px: float | None
    """Scale in um per pixel; None if it is unknown because the cell fills the frame."""
    image_id: str
    """Regular expression that every image id matches in full; it keeps patient names out of the
    rows.
    """
    labels: Mapping[str, str | None]
    """Archive code to class name or `UNLABELED_CODE`; None for a known code outside the eleven
    classes."""
    walk: Callable[[ReadableArchive], Iterator[Entry]]
    """Yields the archive's images in the order of their ids; ValueError if it is a different
    archive.
    """
    archive_counts: Mapping[str, int]
    """Images in the complete archive by archive code, without declared faults that are skipped.

    Empty if unknown; then the counts are not checked.
    """
    used_counts: Mapping[str, int]
    """Images that become rows, by class name or `UNLABELED_CODE`; empty if unknown."""
    num_images: int | None = None
    """Images in the complete archive, if `archive_counts` does not give them by code."""
    frame_px: frozenset[tuple[int, int]] = frozenset()
    """Width and height of the frames to use; empty uses every size."""
    names_sha256: str | None = None
    """SHA-256 of the sorted image ids of all rows, joined by newlines."""
    faults: tuple[KnownFault, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """Known problems and choices, one sentence each, for the dataset card."""
    declared: Mapping[str, str] = field(default_factory=dict)
    """Findings of `hf-wbc audit` that are already known: kind to a sentence for the card."""

    def __post_init__(self) -> None:
        require_declared(self.declared)

    def fault_of(self, image_id: str) -> KnownFault | None:
        """Return the declared fault of an image, or None."""
        return next((fault for fault in self.faults if image_id in fault.image_ids), None)
