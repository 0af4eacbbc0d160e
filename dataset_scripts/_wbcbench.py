"""The images of WBCBench 2026 (ISBI): a labeled part, and the test set without labels.

Not yet seen on a real copy: the layout is that of the challenge's download, three folders with
labels in a table beside them, and a test folder whose table has none:

    phase1/01400000.jpg                    phase1_label.csv (ID,labels)
    phase2/train/, eval/, test/            phase2_train.csv, phase2_eval.csv, phase2_test.csv

Each part is a domain of its own, so that the challenge's test images never train a model.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from hf_wbc.preparation.listing import listing
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec, Entry, ReadableArchive
from hf_wbc.text import csv_rows, shorten_list

LABELED = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
}
"""Folder of images by table of labels."""
UNLABELED = {"phase2_test.csv": "phase2/test"}
LABELS: Mapping[str, str | None] = {
    "BA": "basophil",
    "EO": "eosinophil",
    "BL": "myeloblast",
    "PMY": "promyelocyte",
    "MY": "myelocyte",
    "MMY": "metamyelocyte",
    "BNE": "neutrophil_banded",
    "SNE": "neutrophil_segmented",
    "MO": "monocyte",
    "LY": "lymphocyte_typical",
    "PC": None,
    "PLY": None,
    "VLY": None,
}
"""The challenge's thirteen classes; plasma cells, prolymphocytes and variant lymphocytes are none
of the eleven."""
NUM_IMAGES = 55_012
"""Images of all parts, as the challenge's article states."""


def build(name: str, purpose: str, tables: Mapping[str, str]) -> ArchiveSpec:
    """Build the spec of one part.

    Args:
        name: Name of the domain.
        purpose: What the part is, for its title.
        tables: Folder of images by table.
    """
    is_labeled = tables is LABELED
    return ArchiveSpec(
        name=name,
        repo=f"wbc-{name.replace('_', '-')}",
        title=f"WBCBench 2026: {purpose}",
        homepage="https://www.kaggle.com/competitions/wbc-bench-2026",
        license="cc-by-nc-4.0",
        redistributable=False,
        citation="""\
@misc{tian2026wbcbench,
  author = {Tian, Xin and Ma, Xudong and Yang, Tianqi and Achim, Alin
            and Papie{\\.z}, Bart{\\l}omiej W and Watanaboonyongcharoen, Phandee
            and Anantrasirichai, Nantheera},
  title  = {{WBCBench 2026}: A Challenge for Robust White Blood Cell Classification Under Class
            Imbalance},
  year   = {2026},
  eprint = {2604.10797},
  archivePrefix = {arXiv}
}""",
        description=(
            "Single white blood cells of one site, labeled by hematopathologists, some of them "
            f"degraded by synthetic noise, blur and illumination: {purpose} of the challenge "
            "WBCBench 2026 (ISBI)."
        ),
        um_per_px=None,
        image_id=r"[0-9]{8}\.jpg",
        labels=LABELS if is_labeled else {UNLABELED_CODE: UNLABELED_CODE},
        walk=partial(_walk, tables),
        archive_counts={},
        used_counts={},
        notes=(
            "This preparation was written from the published layout and has not yet been seen on "
            "a real copy: the number of images of each class is not checked. The challenge states "
            f"{NUM_IMAGES:,} images in all.",
            "The scale is not stated, so the cropped config contains the whole frame.",
            *_label_notes(is_labeled),
            "The challenge separates patients between its parts but its tables do not name them, "
            "so splits are by image and scores within this dataset are optimistic.",
            "The images of phase 2 are partly degraded on purpose.",
            "The data-use agreement allows non-commercial research only and forbids "
            "redistribution: never publish these images.",
        ),
    )


def _label_notes(is_labeled: bool) -> Iterator[str]:
    if not is_labeled:
        yield "The challenge provides no labels of its test set: every label is -1."
        return
    yield (
        "Blasts (BL) are counted as myeloblasts; whether some are of another lineage is not "
        "stated. Plasma cells (PC), prolymphocytes (PLY) and variant lymphocytes (VLY) are "
        "outside the eleven classes and are left out. There are no erythroblasts."
    )


def _walk(tables: Mapping[str, str], archive: ReadableArchive) -> Iterator[Entry]:
    """Yield the images that the tables list, with their labels.

    Raises:
        ValueError: If a table or an image is missing, or an image is listed twice or not at all.
    """
    members = {name.lower(): name for name in archive.names}
    entries: dict[str, Entry] = {}
    for table, folder in tables.items():
        path = next((name for key, name in members.items() if f"/{key}".endswith(f"/{table}")), "")
        if not path:
            raise ValueError(
                f"this is not WBCBench 2026: looked for {table} beside {folder}, and found "
                f"{listing(archive.names)}"
            )
        root = f"{path[: -len(table)]}{folder}/".lower()
        found = {
            key.removeprefix(root): name
            for key, name in members.items()
            if key[: len(root)] == root
        }
        for line, row in csv_rows(archive.read(path), path, ("ID", "labels")):
            image_id = row["ID"].lower()
            if image_id in entries:
                raise ValueError(f"{path}, line {line}: {image_id} is listed twice; keep one line")
            if image_id not in found:
                raise ValueError(f"{path}, line {line}: {folder}/{row['ID']} is missing")
            label = UNLABELED_CODE if tables is UNLABELED else row["labels"]
            entries[image_id] = Entry(found.pop(image_id), image_id, label)
        if unlisted := [name for key, name in found.items() if key.endswith(".jpg")]:
            raise ValueError(
                f"{path} does not list {shorten_list(unlisted)}; use the original table"
            )
    return (entries[image_id] for image_id in sorted(entries))
