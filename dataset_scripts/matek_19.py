"""Matek et al. 2019: leukemic and other blood from the LMU Munich, AML-Cytomorphology_LMU.

MYO is the myeloblast and MYB the myelocyte. The 2022 challenge counted the 26 monoblasts (MOB) as
monocytes and left out PMB, KSC, and LYA, which gives its 18,321 images.
"""

import re
from collections.abc import Iterator

from hf_wbc.preparation.listing import class_folders
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive

CODES = (
    "BAS", "EBO", "EOS", "KSC", "LYA", "LYT", "MMZ", "MOB", "MON", "MYB", "MYO", "NGB", "NGS",
    "PMB", "PMO",
)  # fmt: skip
_IMAGE_ID = rf"(?:{'|'.join(CODES)})_[0-9]{{4}}\.tiff(?:\.tiff)?"
# A download service may have added ` (2021_05_21 20_42_39 UTC)` before or after the suffix.
_COPIED = re.compile(
    rf"({'|'.join(CODES)})_([0-9]{{4}})(?:\.tiff?)*"
    r"(?: \([0-9]{4}_[0-9]{2}_[0-9]{2} [0-9]{2}_[0-9]{2}_[0-9]{2} UTC\))?(?:\.tiff?)+",
    re.IGNORECASE,
)
# The archive lists one name with a doubled suffix.
_LISTED = {"MYB_0039.tiff": "MYB_0039.tiff.tiff"}


def walk(archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the files `CODE/CODE_0001.tiff`; the tables next to the folders are not images."""
    folders = {code.lower(): (code,) for code in CODES}
    return class_folders(archive, "AML-Cytomorphology_LMU (Matek 2019)", folders, _published)


def _published(file_name: str) -> str:
    """Return the file name as the archive lists it."""
    if found := _COPIED.fullmatch(file_name):
        name = f"{found[1].upper()}_{found[2]}.tiff"
        return _LISTED.get(name, name)
    return file_name


SOURCE = ArchiveSpec(
    name="matek_19",
    repo="wbc-matek-19",
    title="Matek_19: peripheral blood cells of AML patients and controls, Munich",
    homepage="https://doi.org/10.7937/tcia.2019.36f5o9ld",
    license="cc-by-3.0",
    redistributable=True,
    citation="""\
@misc{matek2019dataset,
  author    = {Matek, Christian and Schwarz, Simone and Marr, Carsten and Spiekermann, Karsten},
  title     = {A Single-cell Morphological Dataset of Leukocytes from {AML} Patients and
               Non-malignant Controls (AML-Cytomorphology_LMU)},
  publisher = {The Cancer Imaging Archive},
  year      = {2019},
  doi       = {10.7937/tcia.2019.36f5o9ld}
}

@article{matek2019human,
  author  = {Matek, Christian and Schwarz, Simone and Spiekermann, Karsten and Marr, Carsten},
  title   = {Human-level recognition of blast cells in acute myeloid leukaemia with convolutional
             neural networks},
  journal = {Nature Machine Intelligence},
  volume  = {1},
  pages   = {538--544},
  year    = {2019},
  doi     = {10.1038/s42256-019-0101-9}
}""",
    description=(
        "Single white blood cells from the peripheral blood of 100 patients with acute myeloid "
        "leukemia and 100 people without signs of hematological malignancy, of the Munich "
        "University Hospital (LMU), 2014 to 2017. Smears were scanned with an M8 microscope "
        "(Precipoint) at 100-fold magnification with oil immersion and labeled by trained "
        "examiners. Frames are RGBA TIFFs of 400x400 px, 29.0 x 29.0 um; the alpha channel is "
        "empty and is dropped."
    ),
    um_per_px=1 / 13.8,
    image_id=_IMAGE_ID,
    labels={
        "BAS": "basophil",
        "EOS": "eosinophil",
        "EBO": "erythroblast",
        "MYO": "myeloblast",
        "PMO": "promyelocyte",
        "MYB": "myelocyte",
        "MMZ": "metamyelocyte",
        "NGB": "neutrophil_banded",
        "NGS": "neutrophil_segmented",
        "MON": "monocyte",
        "MOB": "monocyte",
        "LYT": "lymphocyte_typical",
        "PMB": None,
        "KSC": None,
        "LYA": None,
    },
    walk=walk,
    archive_counts={
        "BAS": 79,
        "EOS": 424,
        "EBO": 78,
        "MYO": 3268,
        "PMO": 70,
        "MYB": 42,
        "MMZ": 15,
        "NGB": 109,
        "NGS": 8484,
        "MON": 1789,
        "MOB": 26,
        "LYT": 3937,
        "PMB": 18,
        "KSC": 15,
        "LYA": 11,
    },
    used_counts={
        "basophil": 79,
        "eosinophil": 424,
        "erythroblast": 78,
        "myeloblast": 3268,
        "promyelocyte": 70,
        "myelocyte": 42,
        "metamyelocyte": 15,
        "neutrophil_banded": 109,
        "neutrophil_segmented": 8484,
        "monocyte": 1815,
        "lymphocyte_typical": 3937,
    },
    frame_px=frozenset({(400, 400)}),
    names_sha256="b17fc10dc2f8b2e4c6381c6d6b9ea1ae069405d726598841686855c25412dc83",
    notes=(
        "The archive does not state which images are of the same person, so splits are by image "
        "and scores within this dataset are optimistic.",
        "MYO is the myeloblast, MYB the myelocyte.",
        "The 26 monoblasts (MOB) count as monocytes, as in the challenge of 2022; other studies "
        "leave them out.",
        "PMB (18 bilobed promyelocytes), KSC (15 smudge cells) and LYA (11 atypical lymphocytes) "
        "are outside the eleven classes and are left out.",
        "Classes are very imbalanced: there are 15 metamyelocytes and 8,484 segmented neutrophils, "
        "so the test split has 3 metamyelocytes.",
        "Some frames are at the edge of the scan and have a black bar.",
        "Boundaries between adjacent stages of maturation are fuzzy. The re-annotations in the "
        "archive's annotations.dat show how well examiners agree; they are not part of these "
        "rows, and `hf-wbc compare --annotations` reports them beside scores.",
        "An image id is the name in the archive's list, without suffixes that copies add; "
        "MYB_0039.tiff is listed as MYB_0039.tiff.tiff.",
    ),
)
