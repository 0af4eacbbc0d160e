"""Take the cells out of a field of view that somebody uploaded as if it were one cell."""

from hf_wbc.app.upload_reader import FieldOrigin, UploadedImage
from hf_wbc.data.crop import Box, crop_side, cut_square


def cells_of_field(picture: UploadedImage, um_per_px: float) -> tuple[UploadedImage, ...]:
    """Find the white cells of a field, and cut out 25 um around each.

    Args:
        picture: The field.
        um_per_px: Its scale in um per pixel.
    """
    from hf_wbc.finder.detect_cells import find_cells

    origins = [
        FieldOrigin(picture, number, cell.x_px, cell.y_px, cell.flags)
        for number, cell in enumerate(find_cells(picture.pixels, um_per_px), 1)
    ]
    return tuple(cut_out(origin, um_per_px) for origin in origins)


def cut_out(origin: FieldOrigin, um_per_px: float) -> UploadedImage:
    """Cut 25 um around a cell out of its field, at a scale in um per pixel."""
    name = f"{origin.picture.name}, cell {origin.number}"
    return UploadedImage(
        name, cut_square(origin.picture.pixels, box_in_field(origin, um_per_px)), origin
    )


def box_in_field(origin: FieldOrigin, um_per_px: float) -> Box:
    """Return left, top, right and bottom of the 25 um around a cell, in pixels of its field."""
    side = crop_side(um_per_px)
    left, top = round(origin.x_px - side / 2), round(origin.y_px - side / 2)
    return left, top, left + side, top + side
