"""Raabin-WBC (Kouzehkanan et al. 2022): cropped cells of normal blood from Iran.

Not yet seen on a real copy: the layout is that of the double-labeled cropped cells as published,
`Train/`, `TestA/` and `TestB/` (two rar files and a zip) with a folder for each of five classes.
"""

from collections.abc import Iterator

from hf_wbc.data.image_io import IMAGE_SUFFIXES
from hf_wbc.preparation.listing import listing
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive
from hf_wbc.text import shorten_list

PARTS = ("Train", "TestA", "TestB")
LABELS = {
    "Basophil": "basophil",
    "Eosinophil": "eosinophil",
    "Lymphocyte": "lymphocyte_typical",
    "Monocyte": "monocyte",
    "Neutrophil": "neutrophil_segmented",
}
_IMAGE_ID = rf"(?:{'|'.join(PARTS)})/(?:{'|'.join(LABELS)})/[0-9_-]+(?: ?\([0-9]+\))?\.(?:jpg|png)"
_PARTS = {part.lower(): part for part in PARTS}
_FOLDERS = {folder.lower(): folder for folder in LABELS}


def walk(archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the files `PART/CLASS/NUMBER.jpg`; the id has the folders, as parts may share names."""
    entries: dict[str, Entry] = {}
    strange = []
    for name in archive.names:
        *_, part, folder, file_name = ("", "", *name.split("/"))
        if not file_name.lower().endswith(IMAGE_SUFFIXES):
            continue
        if part.lower() not in _PARTS or folder.lower() not in _FOLDERS:
            strange.append(name)
            continue
        stem, _, suffix = file_name.rpartition(".")
        code = _FOLDERS[folder.lower()]
        image_id = f"{_PARTS[part.lower()]}/{code}/{stem}.{suffix.lower()}"
        if other := entries.get(image_id):
            raise ValueError(f"{other.member} and {name} are both {image_id}; keep one")
        entries[image_id] = Entry(name, image_id, code)
    if not entries:
        raise ValueError(
            f"this is not Raabin-WBC: looked for files such as Train/Basophil/..., and found "
            f"{listing(archive.names)}"
        )
    if strange:
        raise ValueError(
            f"{len(strange):,} images are in no class folder of Train, TestA or TestB: "
            f"{shorten_list(strange)}; give the folder of the double-labeled cropped cells alone"
        )
    return (entries[image_id] for image_id in sorted(entries))


SOURCE = ArchiveSpec(
    name="raabin_22",
    repo="wbc-raabin-22",
    title="Raabin-WBC: normal peripheral blood cells, Iran",
    homepage="https://raabindata.com/free-data/",
    license="other",
    redistributable=False,
    citation="""\
@article{kouzehkanan2022large,
  author  = {Kouzehkanan, Zahra Mousavi and Saghari, Sepehr and Tavakoli, Sajad
             and Rostami, Peyman and Abaszadeh, Mohammadjavad and Mirzadeh, Farzaneh
             and Satlsar, Esmaeil Shahabi and Gheidishahran, Maryam and Gorgi, Fatemeh
             and Mohammadi, Saeed and Hosseini, Reshad},
  title   = {A large dataset of white blood cells containing cell locations and types, along with
             segmented nuclei and cytoplasm},
  journal = {Scientific Reports},
  volume  = {12},
  pages   = {1123},
  year    = {2022},
  doi     = {10.1038/s41598-021-04426-x}
}""",
    description=(
        "Single cells cropped from normal peripheral blood smears of laboratories in Iran, taken "
        "with two microscopes and two cameras and labeled by two experts: the double-labeled "
        "cropped cells of Raabin-WBC."
    ),
    um_per_px=None,
    image_id=_IMAGE_ID,
    labels=LABELS,
    walk=walk,
    archive_counts={},
    used_counts={},
    notes=(
        "This preparation was written from the published layout and has not yet been seen on a "
        "real copy: the number of images of each class is not checked.",
        "The scale is not stated, so the cropped config contains the whole crop of the archive.",
        "Bands are not told from segmented neutrophils: score with "
        "neutrophil_banded=neutrophil_segmented merged.",
        "The archive does not state which images are of the same person, so splits are by image "
        "and scores within this dataset are optimistic. By the article's account, TestB was taken "
        "with another camera and microscope than Train and TestA; the image id names the part.",
        "No license of the images was found, only that of the article: never publish them.",
    ),
)
