"""Whom the three toy laboratories take after: priors, and how an archive is laid out and named.

A toy archive has the layout, the format and the names of the one it stands for, so that the same
dataset script reads it. The numbers in its names start where no real archive's do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hf_wbc.data.toy.scanners import ACEVEDO, MATEK, MLL23, Scanner
from hf_wbc.taxonomy import NAMES


@dataclass(frozen=True)
class Laboratory:
    """One domain of the toy."""

    source: str
    """Name of the source whose dataset script reads the archive."""
    archive: str
    """The archive's folder."""
    member: str
    """Path of an image inside it, of `folder`, `code`, `number` and `serial`."""
    scanner: Scanner
    codes: Mapping[str, str]
    """The archive's code by class name; a class that is not here is not in the archive."""
    num_real: Mapping[str, int]
    """Images of the real dataset by class name: the priors."""
    num_small: int
    """Images of the small archive, before rare classes are topped up."""
    rare: frozenset[str] = frozenset()
    """Classes that are left at `NUM_RARE`, whatever the size."""

    def path(self, cell_class: str, index: int) -> str:
        """The member's path of the index-th image of a class, from 0."""
        code = self.codes[cell_class]
        return self.member.format(
            folder=FOLDERS.get(code, code),
            code=code,
            number=9001 + index,
            serial=900001 + 1000 * NAMES.index(cell_class) + index,
        )


NUM_RARE = 6
MAX_PER_CLASS = 999

SIZES: Mapping[str, tuple[float, int]] = {"tiny": (0.0, 6), "small": (1.0, 16), "full": (3.6, 48)}
"""Multiple of `num_small`, and the fewest images of a class."""

FOLDERS = {
    "BA": "basophil", "EO": "eosinophil", "ERB": "erythroblast", "PMY": "ig", "MY": "ig",
    "MMY": "ig", "BNE": "neutrophil", "SNE": "neutrophil", "MO": "monocyte", "LY": "lymphocyte",
}  # fmt: skip


def _by_class(*values: tuple[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Codes and numbers by class name, from one pair a class in the order of `NAMES`."""
    pairs = [(name, pair) for name, pair in zip(NAMES, values, strict=True) if pair[1]]
    return {name: code for name, (code, _) in pairs}, {name: num for name, (_, num) in pairs}


_ACEVEDO = _by_class(
    ("BA", 1168), ("EO", 3067), ("ERB", 1499), ("", 0), ("PMY", 592), ("MY", 1137),
    ("MMY", 1015), ("BNE", 1633), ("SNE", 1646), ("MO", 1370), ("LY", 1164),
)  # fmt: skip
_MATEK = _by_class(
    ("BAS", 79), ("EOS", 424), ("EBO", 78), ("MYO", 3268), ("PMO", 70), ("MYB", 42),
    ("MMZ", 15), ("NGB", 109), ("NGS", 8484), ("MON", 1815), ("LYT", 3937),
)  # fmt: skip
_MLL = _by_class(
    ("basophil", 616), ("eosinophil", 2448), ("normoblast", 2071), ("myeloblast", 8606),
    ("promyelocyte", 745), ("myelocyte", 747), ("metamyelocyte", 483), ("neutrophil_band", 687),
    ("neutrophil_segmented", 7170), ("monocyte", 2510), ("lymphocyte", 5532),
)  # fmt: skip

LABORATORIES = (
    Laboratory(
        "acevedo_20", "PBC_dataset_normal_DIB", "{folder}/{code}_{serial}.jpg",
        ACEVEDO, *_ACEVEDO, num_small=600,
    ),
    Laboratory(
        "matek_19", "AML-Cytomorphology_LMU", "AML-Cytomorphology/{code}/{code}_{number}.tiff",
        MATEK, *_MATEK, num_small=500, rare=frozenset({"metamyelocyte"}),
    ),
    Laboratory(
        "mll_23", "MLL23", "{code}/{code}_{number}.TIF",
        MLL23, *_MLL, num_small=480,
    ),
)  # fmt: skip


def num_images(laboratory: Laboratory, size: str) -> dict[str, int]:
    """Images to draw by class name; ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; choose from {', '.join(SIZES)}")
    multiple, fewest = SIZES[size]
    total = sum(laboratory.num_real.values())
    numbers = {}
    for name, num_real in laboratory.num_real.items():
        share = round(multiple * laboratory.num_small * num_real / total)
        wanted = NUM_RARE if name in laboratory.rare else max(fewest, share)
        numbers[name] = min(wanted, MAX_PER_CLASS)
    return numbers
