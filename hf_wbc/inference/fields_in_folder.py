"""Recognize fields of view in a folder of cells, and replace them by the cells that they show."""

from dataclasses import replace

from hf_wbc.data.archive_names import is_readable
from hf_wbc.data.image_blocks import ImageFolder, read_image, read_image_bytes
from hf_wbc.data.image_io import ImageFault, image_size
from hf_wbc.data.schema import CROP_UM
from hf_wbc.finder.detect_cells import find_cells
from hf_wbc.inference.cell_prediction import FIELD_UM
from hf_wbc.text import shorten_list

SEPARATOR = "#"
"""Between the name of a field and the number of a cell in it."""


def replace_fields(folder: ImageFolder) -> ImageFolder:
    """Replace the pictures that are too large for one cell by the cells found in them.

    A cell is named after its field, `field.jpg#3`. What cannot be read stays, and is reported when
    it is read.

    Args:
        folder: A folder of known scale.

    Returns:
        The folder with the cells in the places of their fields, and a note that says so.

    Raises:
        ValueError: If no image is left, because the fields show no white cell.
    """
    assert folder.um_per_px is not None
    names: list[str] = []
    cells: dict[str, tuple[str, float, float]] = {}
    fields, empty = [], []
    for name in folder.names:
        if not _is_field(folder, name):
            names.append(name)
            continue
        try:
            pixels = read_image(folder.path, name)
        except ImageFault:
            names.append(name)
            continue
        fields.append(name)
        found = find_cells(pixels, folder.um_per_px)
        for number, cell in enumerate(found, 1):
            names.append(f"{name}{SEPARATOR}{number}")
            cells[names[-1]] = (name, cell.x_px, cell.y_px)
        empty += [] if found else [name]
    if not fields:
        return folder
    note = (
        f"{len(fields)} of {len(folder.names)} images are wider than {FIELD_UM:g} um and therefore "
        f"fields of view ({shorten_list(fields, 3)}): the {len(cells)} cells found in them were "
        f"predicted, each named like {fields[0]}{SEPARATOR}1; `hf-wbc find` writes their places"
    )
    notes = [*folder.notes, note]
    if empty:
        notes.append(f"fields without a white cell: {shorten_list(empty)}")
    if not names:
        raise ValueError(f"{folder.path}: {'; '.join(notes)}")
    return replace(folder, names=tuple(names), notes=tuple(notes), cells=cells)


def _is_field(folder: ImageFolder, name: str) -> bool:
    """Return whether a picture states to be larger than one of a single cell."""
    assert folder.um_per_px is not None
    if not is_readable(name):
        return False
    try:
        size = image_size(read_image_bytes(folder.path, name), name)
    except ImageFault:
        return False
    low, high = (side * folder.um_per_px for side in sorted(size))
    return high > FIELD_UM and low >= CROP_UM  # a narrow strip shows no whole cell
