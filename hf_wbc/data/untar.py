"""A compressed tar, decompressed once: only then can single files of it be read at their place."""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""First bytes of a compressed file to what opens it."""
_CHUNK_BYTES = 2**20


def plain_tar(path: Path, scratch: Path) -> Path:
    """The decompressed tar in the folder `scratch`, where an earlier one is used again.

    It appears whole or not at all. ValueError when the file is truncated, damaged, or compressed
    without being a tar; OSError when the disk is full.
    """
    found = path.stat()
    origin = f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"
    made = scratch / f"{hashlib.sha256(origin.encode()).hexdigest()[:16]}.tar"
    if made.exists():
        return made
    scratch.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch, prefix=made.stem, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            _decompress(path, out)
            out.flush()
            os.fsync(out.fileno())
        os.utime(part, ns=(found.st_atime_ns, found.st_mtime_ns))
        part.replace(made)
    finally:
        part.unlink(missing_ok=True)
    return made


def _decompress(path: Path, out: IO[bytes]) -> None:
    with path.open("rb") as raw:
        head = raw.read(8)
    opener = next(opener for magic, opener in COMPRESSED.items() if head.startswith(magic))
    try:
        with opener(path, "rb") as data:
            first = data.read(tarfile.BLOCKSIZE)
            _expect_tar(first, path)
            out.write(first)
            shutil.copyfileobj(data, out, _CHUNK_BYTES)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's own; bz2's has no number
            raise
        raise _damaged(path, error) from error


def _expect_tar(block: bytes, path: Path) -> None:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(
            f"{path} holds no tar, or is damaged ({error}); give a folder, .zip or .tar"
        ) from error


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is truncated or damaged ({why}); fetch it again")
