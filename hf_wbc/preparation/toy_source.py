"""The source of a toy archive: the real one's layout under a name of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from hf_wbc.preparation.source import ArchiveSpec

NOTICE = "TOY.txt"
"""The file that lies in every toy archive."""


def is_toy(names: Sequence[str]) -> bool:
    """Whether an archive with these members says of itself that it is a toy."""
    return any(PurePosixPath(name).name == NOTICE for name in names)


def toy_name(name: str) -> str:
    """The domain of toy cells in the layout of the source `name`."""
    return f"toy_{name}"


def to_toy_source(source: ArchiveSpec) -> ArchiveSpec:
    """The source with everything taken out that is true of the real archive alone."""
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
            "**Toy data.** These cells are drawings, made by `hf-wbc toy`; none is of a person. "
            f"Layout, scale and share of each class follow {source.name}, stain and sharpness "
            "resemble it. No number that a model reaches here says anything about blood."
        ),
        archive_counts={},
        used_counts={},
        num_images=None,
        names_sha256=None,
        faults=(),
        notes=(),
        declared={},
    )
