"""Sample uploads, valid and invalid."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from hf_wbc.app.uploads import UploadedFile

SIDE = 60


def cell(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Draw a violet disc on a pale, noisy background, (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side / 2
    inside = (x**2 + y**2 < (side / 5) ** 2)[..., None]
    pixels = np.where(inside, (110, 70, 150), (232, 218, 224)) + rng.normal(0, 4, (side, side, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(
    kind: str = "PNG", mode: str = "RGB", seed: int = 0, side: int = SIDE, **options: object
) -> bytes:
    """Encode a cell as an image file."""
    data = io.BytesIO()
    Image.fromarray(cell(seed, side)).convert(mode).save(data, kind, **options)
    return data.getvalue()


def pages(*modes: str, reduced: int | None = None) -> bytes:
    """Encode a multi-page TIFF; `reduced` marks one page as a reduced-size copy."""
    data = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(data, True) as writer:
        for number, mode in enumerate(modes):
            image = Image.fromarray(cell(number))
            if mode == "I;16":
                image = Image.fromarray(np.zeros((SIDE, SIDE), np.uint16))
            else:
                image = image.convert(mode)
            image.save(writer, "TIFF", tiffinfo={254: int(number == reduced)})
            writer.newFrame()
    return data.getvalue()


def animation(kind: str) -> bytes:
    """Encode two animation frames."""
    data = io.BytesIO()
    first, second = (Image.fromarray(cell(seed)) for seed in (0, 1))
    first.save(data, kind, save_all=True, append_images=[second])
    return data.getvalue()


def gray_16() -> bytes:
    """Encode a 16-bit gray PNG."""
    data = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE), 40_000, np.uint16)).save(data, "PNG")
    return data.getvalue()


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """Encode a PNG that claims this size and contains almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def zipped(members: dict[str, bytes], **options: object) -> bytes:
    """Zip the members unchanged."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return data.getvalue()


def bomb(num: int, megabytes: int) -> bytes:
    """Build a small zip bomb whose directory states the unpacked size."""
    data = bytearray(zipped({f"{i}.png": b"0" for i in range(num)}))
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + 24 : place + 28] = struct.pack("<I", megabytes << 20)
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


def encrypted(data: bytes) -> bytes:
    """Mark the members of a zip as encrypted."""
    marked = bytearray(data)
    for head, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = marked.find(head)
        while place >= 0:
            marked[place + offset] |= 1
            place = marked.find(head, place + 4)
    return bytes(marked)


def give(folder: Path, files: dict[str, bytes]) -> list[UploadedFile]:
    """Write the files as the server stores them: each in a separate folder."""
    given = []
    for number, (name, data) in enumerate(files.items()):
        path = folder / "uploads" / str(number) / "upload"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        given.append(UploadedFile(name, path))
    return given
