"""Acevedo et al. 2020: normal blood from the Hospital Clinic of Barcelona, PBC_dataset_normal_DIB.

The archive holds 17,092 images from two sessions. The 2022 challenge used the 14,291 images of its
eleven classes that measure 360x363 px, which are those of the first session.
"""

import re
from collections.abc import Iterator

from hf_wbc.preparation.listing import class_folders
from hf_wbc.preparation.source import ArchiveSpec, Entry, KnownFault, ReadableArchive

FOLDERS = {
    "basophil": ("BA",),
    "eosinophil": ("EO",),
    "erythroblast": ("ERB",),
    "ig": ("IG", "MMY", "MY", "PMY"),
    "lymphocyte": ("LY",),
    "monocyte": ("MO",),
    "neutrophil": ("BNE", "NEUTROPHIL", "SNE"),
    "platelet": ("PLATELET",),
}
_CODES = "|".join(code for codes in FOLDERS.values() for code in codes)
_IMAGE_ID = rf"(?:{_CODES})_[0-9]{{1,8}}\.jpg"


def walk(archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the files `FOLDER/PREFIX_id.jpg`; the id is the full file name, as numbers repeat."""
    return class_folders(archive, "PBC_dataset_normal_DIB (Acevedo 2020)", FOLDERS, _published)


def _published(file_name: str) -> str:
    """Restore the capitalization used in the archive."""
    if re.fullmatch(_IMAGE_ID, file_name, re.IGNORECASE):
        code, _, rest = file_name.partition("_")
        return f"{code.upper()}_{rest.lower()}"
    return file_name


SOURCE = ArchiveSpec(
    name="acevedo_20",
    repo="wbc-acevedo-20",
    title="Acevedo_20: normal peripheral blood cells, Barcelona",
    homepage="https://data.mendeley.com/datasets/snkd93bnjr/1",
    license="cc-by-4.0",
    redistributable=True,
    citation="""\
@article{acevedo2020dataset,
  author  = {Acevedo, Andrea and Merino, Anna and Alf{\\'e}rez, Santiago and Molina, {\\'A}ngel
             and Bold{\\'u}, Laura and Rodellar, Jos{\\'e}},
  title   = {A dataset of microscopic peripheral blood cell images for development of automatic
             recognition systems},
  journal = {Data in Brief},
  volume  = {30},
  pages   = {105474},
  year    = {2020},
  doi     = {10.1016/j.dib.2020.105474}
}""",
    description=(
        "Single normal cells from peripheral blood of people without infection, hematological or "
        "oncological disease and free of medication when the blood was drawn, taken in the Core "
        "Laboratory of the Hospital Clinic of Barcelona. Smears were stained with May "
        "Grünwald-Giemsa by a Sysmex SP1000i, photographed by a CellaVision DM96 and labeled by "
        "clinical pathologists. Frames are JPEGs of 360x363 px, 36.0 x 36.3 um."
    ),
    um_per_px=0.1,
    image_id=_IMAGE_ID,
    labels={
        "BA": "basophil",
        "EO": "eosinophil",
        "ERB": "erythroblast",
        "PMY": "promyelocyte",
        "MY": "myelocyte",
        "MMY": "metamyelocyte",
        "BNE": "neutrophil_banded",
        "SNE": "neutrophil_segmented",
        "MO": "monocyte",
        "LY": "lymphocyte_typical",
        "IG": None,
        "NEUTROPHIL": None,
        "PLATELET": None,
    },
    walk=walk,
    archive_counts={
        "BA": 1218,
        "EO": 3117,
        "ERB": 1551,
        "PMY": 592,
        "MY": 1137,
        "MMY": 1015,
        "BNE": 1633,
        "SNE": 1646,
        "MO": 1420,
        "LY": 1214,
        "IG": 151,
        "NEUTROPHIL": 50,
        "PLATELET": 2348,
    },
    used_counts={
        "basophil": 1168,
        "eosinophil": 3067,
        "erythroblast": 1499,
        "promyelocyte": 592,
        "myelocyte": 1137,
        "metamyelocyte": 1015,
        "neutrophil_banded": 1633,
        "neutrophil_segmented": 1646,
        "monocyte": 1370,
        "lymphocyte_typical": 1164,
    },
    frame_px=frozenset({(360, 363)}),
    names_sha256="90cdd0770028d2125dcd7533018857106ca6782e216c8b59a14c4ee08985b2fe",
    faults=(
        KnownFault(
            (".DS_169665.jpg",),
            "not_an_image",
            "skip",
            "neutrophil/.DS_169665.jpg contains a folder's view settings, not an image.",
        ),
        KnownFault(
            ("EO_225902.jpg", "BNE_191112.jpg"),
            "two_labels",
            "train_only",
            "EO_225902.jpg and BNE_191112.jpg are the same image with two labels; both rows are "
            "kept in the training split, so that no score depends on them.",
        ),
    ),
    notes=(
        "The archive does not state which images are of the same person, so splits are by image "
        "and scores within this dataset are optimistic.",
        "453 images of the archive (50 BA, 50 EO, 50 LY, 50 MO, 52 ERB, all IG and NEUTROPHIL) are "
        "from a second session with other frame sizes and a lilac background that reveals the "
        "class; they are left out.",
        "IG (immature granulocytes without a stage), NEUTROPHIL (without a stage) and PLATELET "
        "are outside the eleven classes and are left out.",
        "The dataset contains no myeloblasts.",
        "17 pairs of files are identical, 16 of them with the same label; a pair stays in one "
        "split.",
        "The same number may occur with several prefixes: only the whole file name is unique.",
    ),
    declared={
        "background_class": (
            "The border of a frame, which does not show the cell, correlates with the class in the "
            "first session too: a linear classifier that sees only the border is right for a "
            "quarter of the images, against a tenth by chance."
        ),
    },
)
