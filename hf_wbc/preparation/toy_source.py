"""The `ArchiveSpec` of a toy archive: the real archive's layout under a name of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from hf_wbc.preparation.source import ArchiveSpec

NOTICE = "TOY.txt"
"""A file in every toy archive."""


def is_toy(names: Sequence[str]) -> bool:
    """Return whether an archive with these members is marked as a toy archive."""
    return any(PurePosixPath(name).name == NOTICE for name in names)


def toy_name(name: str) -> str:
    """Return the domain name of toy cells in the layout of the source `name`."""
    return f"toy_{name}"


def to_toy_source(source: ArchiveSpec) -> ArchiveSpec:
    """Return the source without everything that is true only of the real archive."""
    return replace(
        source,
        name=toy_name(source.name),
        repo=f"wbc-toy-{source.name.replace('_', '-')}",
        title=f"Toy cells in the layout of {source.name}",
        homepage="",
        license="apache-2.0",
        redistributable=True,
        citation="",
        description=(
            "**Toy data.** These cells are drawings made by `hf-wbc toy`, not cells of a person. "
            f"Layout, scale and class shares follow {source.name}; stain and sharpness resemble "
            "it. Scores on these images say nothing about real blood."
        ),
        archive_counts={},
        used_counts={},
        num_images=None,
        names_sha256=None,
        faults=(),
        notes=(),
        declared={},
    )
