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
