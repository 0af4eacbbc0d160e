"""A source: the facts of one archive, stated once.

Each file in dataset_scripts/ defines one `SOURCE`. It states; `hf_wbc.data.prepare` checks, crops,
splits and writes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hf_wbc import taxonomy
from hf_wbc.data.audit.findings import check_declared

UNLABELLED = "unlabelled"
"""Stands for a class's name where nobody has named the cells; their label is -1."""


def label_id(cell_class: str) -> int:
    """The label of a class name or of `UNLABELLED`; ValueError for any other name."""
    return taxonomy.UNLABELLED if cell_class == UNLABELLED else taxonomy.class_id(cell_class)


class Readable(Protocol):
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
class Fault:
    """A known fault of an archive, and what is done about it."""

    image_ids: tuple[str, ...]
    kind: Literal["not_an_image", "two_labels"]
    action: Literal["skip", "train_only"]
    note: str


@dataclass(frozen=True)
class Source:
    """Facts of an archive."""

    name: str
    """The domain's name, `acevedo_20`."""
    repo: str
    """The dataset's repository name, `wbc-acevedo-20`."""
    title: str
    homepage: str
    licence: str
    """The licence's identifier on the Hub, `cc-by-4.0`."""
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
    walk: Callable[[Readable], Iterator[Entry]]
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
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """Known problems and choices, one sentence each, for the dataset card."""
    declared: Mapping[str, str] = field(default_factory=dict)
    """What `hf-wbc audit` finds and is known: a kind of finding to a sentence for the card."""

    def __post_init__(self) -> None:
        check_declared(self.declared)

    def fault_of(self, image_id: str) -> Fault | None:
        """The declared fault of an image, if it has one."""
        return next((fault for fault in self.faults if image_id in fault.image_ids), None)
