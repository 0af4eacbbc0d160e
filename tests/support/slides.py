"""Write pyramidal tiled TIFFs, which OpenSlide reads as whole slides."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TILE = 256


def write_pyramid(path: Path, pixels: NDArray[np.uint8], levels: int = 3) -> None:
    """Write an image (H, W, 3) and its halvings as a tiled TIFF compressed with deflate."""
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for level in range(levels):
        image = pixels[:: 2**level, :: 2**level]
        height, width = image.shape[:2]
        places, sizes = [], []
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                tile = np.zeros((TILE, TILE, 3), np.uint8)
                part = image[top : top + TILE, left : left + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                data = zlib.compress(tile.tobytes(), 1)
                places.append(len(out))
                sizes.append(len(data))
                out += data + b"\0" * (len(data) % 2)
        tables = []
        for values in (places, sizes):
            tables.append(len(out))
            out += struct.pack(f"<{len(values)}I", *values)
        tables.append(len(out))
        out += struct.pack("<3HH", 8, 8, 8, 0)
        num = len(places)
        inline = num == 1
        entries = [
            (254, 4, 1, int(level > 0)), (256, 4, 1, width), (257, 4, 1, height),
            (258, 3, 3, tables[2]), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3),
            (284, 3, 1, 1), (322, 4, 1, TILE), (323, 4, 1, TILE),
            (324, 4, num, places[0] if inline else tables[0]),
            (325, 4, num, sizes[0] if inline else tables[1]),
        ]  # fmt: skip
        struct.pack_into("<I", out, link, len(out))
        out += struct.pack("<H", len(entries))
        for entry in entries:
            out += struct.pack("<HHII", *entry)
        link = len(out)
        out += b"\0\0\0\0"
    path.write_bytes(out)


def write_empty_slide(path: Path, side: int, tile: int = 4096, levels: int = 2) -> None:
    """Write a tiled BigTIFF pyramid of `side` x `side` px that stores no tile, in a few kilobytes.

    The table of the tiles of all levels is the same one, all zeros.
    """
    num = (-(-side // tile)) ** 2
    out = bytearray(struct.pack("<2s3HQ", b"II", 43, 8, 0, 0))
    table, link = len(out), 8
    out += bytes(8 * num)
    for level in range(levels):
        length = max(1, side >> level)
        count = (-(-length // tile)) ** 2
        entries = [
            (254, 4, 1, int(level > 0)), (256, 4, 1, length), (257, 4, 1, length),
            (258, 3, 3, 8 | 8 << 16 | 8 << 32), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3),
            (284, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile),
            (324, 16, count, table if count > 1 else 0), (325, 4, count, table if count > 2 else 0),
        ]  # fmt: skip
        struct.pack_into("<Q", out, link, len(out))
        out += struct.pack("<Q", len(entries))
        for entry in entries:
            out += struct.pack("<HHQQ", *entry)
        link = len(out)
        out += bytes(8)
    path.write_bytes(out)


def write_dicom_slide(folder: Path, pixels: NDArray[np.uint8], um_per_px: float) -> Path:
    """Write an image (H, W, 3) and its halving as a DICOM whole slide; returns its largest level.

    Each level is a file (VL Whole Slide Microscopy Image, tiles in order, not compressed).
    """
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

    folder.mkdir(exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for level in range(2):
        image = pixels[:: 2**level, :: 2**level]
        height, width = image.shape[:2]
        rows, columns = -(-height // TILE), -(-width // TILE)
        padded = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
        padded[:height, :width] = image
        tiles = padded.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        measures = Dataset()
        measures.PixelSpacing = [um_per_px * 2**level / 1000] * 2
        measures.SliceThickness = 0.001
        shared = Dataset()
        shared.PixelMeasuresSequence = [measures]
        slide = Dataset()
        slide.file_meta = meta
        slide.update(
            {
                "SOPClassUID": meta.MediaStorageSOPClassUID,
                "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
                "SeriesInstanceUID": series, "StudyInstanceUID": study,
                "FrameOfReferenceUID": frame, "Modality": "SM", "InstanceNumber": level + 1,
                "ImageType": ["ORIGINAL" if not level else "DERIVED", "PRIMARY", "VOLUME",
                              "NONE" if not level else "RESAMPLED"],
                "DimensionOrganizationType": "TILED_FULL", "TotalPixelMatrixRows": height,
                "TotalPixelMatrixColumns": width, "TotalPixelMatrixFocalPlanes": 1,
                "NumberOfOpticalPaths": 1, "NumberOfFrames": rows * columns, "Rows": TILE,
                "Columns": TILE, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB",
                "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
                "PixelRepresentation": 0, "SharedFunctionalGroupsSequence": [shared],
            }
        )  # fmt: skip
        slide.PixelData = tiles.tobytes()
        slide.save_as(folder / f"level_{level}.dcm", enforce_file_format=True)
    return folder / "level_0.dcm"
