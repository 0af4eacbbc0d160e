"""MLL23, Shetab Boushehri et al. 2025: labeled blood cells of the Munich Leukemia Laboratory.

It shares the frame geometry and the laboratory of the challenge's own images (wbc_1, wbc_2), and
replaces them where those cannot be shared or have no labels.
"""

import re
from collections.abc import Iterator

from hf_wbc.preparation.listing import class_folders
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive

LABELS = {
    "basophil": "basophil",
    "eosinophil": "eosinophil",
    "normoblast": "erythroblast",
    "myeloblast": "myeloblast",
    "promyelocyte": "promyelocyte",
    "myelocyte": "myelocyte",
    "metamyelocyte": "metamyelocyte",
    "neutrophil_band": "neutrophil_banded",
    "neutrophil_segmented": "neutrophil_segmented",
    "monocyte": "monocyte",
    "lymphocyte": "lymphocyte_typical",
    "hairy_cell": None,
    "lymphocyte_large_granular": None,
    "lymphocyte_neoplastic": None,
    "lymphocyte_reactive": None,
    "plasma_cell": None,
    "promyelocyte_atypical": None,
    "smudge_cell": None,
}
_IMAGE_ID = rf"(?:{'|'.join(LABELS)})_[0-9]{{4}}\.TIF"


def walk(archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the files `LABEL/LABEL_0001.TIF`; folders may be nested twice."""
    folders = {label: (label,) for label in LABELS}
    return class_folders(archive, "MLL23", folders, _published)


def _published(file_name: str) -> str:
    """Restore the capitalization used in the archive."""
    if re.fullmatch(_IMAGE_ID, file_name, re.IGNORECASE):
        stem, _, suffix = file_name.rpartition(".")
        return f"{stem.lower()}.{suffix.upper()}"
    return file_name


SOURCE = ArchiveSpec(
    name="mll_23",
    repo="wbc-mll-23",
    title="MLL23: peripheral blood cells of the Munich Leukemia Laboratory",
    homepage="https://doi.org/10.5281/zenodo.14277609",
    license="cc-by-4.0",
    redistributable=True,
    citation="""\
@article{shetabboushehri2025large,
  author  = {Shetab Boushehri, Sayedali and Kazeminia, Salome and Gruber, Armin and Matek, Christian
             and Spiekermann, Karsten and Pohlkamp, Christian and Haferlach, Torsten
             and Marr, Carsten},
  title   = {A large expert-annotated single-cell peripheral blood dataset for hematological disease
             diagnostics},
  journal = {Scientific Data},
  volume  = {12},
  pages   = {1773},
  year    = {2025},
  doi     = {10.1038/s41597-025-06223-x}
}""",
    description=(
        "Single nucleated cells from the peripheral blood of adults with a wide range of "
        "hematological diagnoses, of the Munich Leukemia Laboratory (MLL), 2021 to 2024. Smears "
        "were stained by the Pappenheim method, scanned with a Metafer (MetaSystems) and labeled "
        "by five examiners of the laboratory. Frames are TIFFs of 288x288 px, 25.0 x 25.0 um."
    ),
    um_per_px=1 / 11.52,
    image_id=_IMAGE_ID,
    labels=LABELS,
    walk=walk,
    archive_counts={
        "basophil": 616,
        "eosinophil": 2448,
        "normoblast": 2071,
        "myeloblast": 8606,
        "promyelocyte": 745,
        "myelocyte": 747,
        "metamyelocyte": 483,
        "neutrophil_band": 687,
        "neutrophil_segmented": 7170,
        "monocyte": 2510,
        "lymphocyte": 5532,
        "hairy_cell": 3265,
        "lymphocyte_large_granular": 1849,
        "lymphocyte_neoplastic": 180,
        "lymphocyte_reactive": 33,
        "plasma_cell": 1658,
        "promyelocyte_atypical": 2033,
        "smudge_cell": 988,
    },
    used_counts={
        "basophil": 616,
        "eosinophil": 2448,
        "erythroblast": 2071,
        "myeloblast": 8606,
        "promyelocyte": 745,
        "myelocyte": 747,
        "metamyelocyte": 483,
        "neutrophil_banded": 687,
        "neutrophil_segmented": 7170,
        "monocyte": 2510,
        "lymphocyte_typical": 5532,
    },
    frame_px=frozenset({(288, 288)}),
    notes=(
        "The archive does not state which images are of the same person, so splits are by image "
        "and scores within this dataset are optimistic.",
        "Frames are already 25 um wide, so the crop is the whole frame.",
        "normoblast is the erythroblast, neutrophil_band the neutrophil_banded, lymphocyte the "
        "lymphocyte_typical.",
        "hairy_cell, lymphocyte_large_granular, lymphocyte_neoplastic, lymphocyte_reactive, "
        "plasma_cell, promyelocyte_atypical and smudge_cell are outside the eleven classes and are "
        "left out.",
        "The archive contains 41,621 images, as its list of labels states; the number in its "
        "README, 41,906, is wrong.",
        "The laboratory, the scale and some authors are those of the challenge's sets wbc_1 and "
        "wbc_2; it is not stated whether MLL23 contains their images, so compare the pixels before "
        "scoring a model that was trained on MLL23 on them.",
    ),
)
