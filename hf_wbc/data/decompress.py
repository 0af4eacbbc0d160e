"""Decompress untrusted data within limits of size, memory and disk space.

The sizes stated in an archive cannot be trusted, and `zipfile` passes whole blocks to the decoders
of bzip2 and LZMA, which may expand a kilobyte to gigabytes. Here every decoder returns
at most one chunk at a time.
"""

import bz2
import errno
import hashlib
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

_CHUNK_BYTES = 2**20
MAX_EXPANSION = 100
"""Largest ratio of a decompressed tar to its compressed file; images rarely exceed 10."""
MIN_EXPANDED_BYTES = 256 * 2**20
"""Size up to which a tar is decompressed whatever the ratio."""
RESERVED_BYTES = 256 * 2**20
"""Disk space that decompressing leaves free, or a twentieth of a smaller disk."""
ZIP_METHODS = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)
"""Compression methods of zips that can be read."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class _Decoder(Protocol):
    """What the decoders of bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Zlib:
    """The same interface to zlib."""

    def __init__(self, wbits: int) -> None:
        self._decoder = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


COMPRESSED: dict[bytes, Callable[[], _Decoder]] = {
    b"\x1f\x8b": lambda: _Zlib(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**29),
}
"""Decoder of each compression format, by the first bytes of the file."""


@dataclass(frozen=True)
class ZipMember:
    """What the directory of a zip states about a member."""

    offset: int
    """Place of its header in the file."""
    compressed: int
    """Compressed size in bytes."""
    size: int
    """Uncompressed size in bytes."""
    method: int
    """Compression method: one of `ZIP_METHODS`."""
    crc: int


def read_zip_member(raw: IO[bytes], member: ZipMember) -> bytes:
    """Read a member of a zip, which may not be larger than the zip's directory states.

    Args:
        raw: The zip file.
        member: The member's entry in the directory.

    Raises:
        ValueError: If the member is damaged, truncated or larger than stated.
        OSError: If reading the file fails.
    """
    raw.seek(member.offset)
    header = raw.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise ValueError("it has no header")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    raw.seek(name_bytes + extra_bytes, os.SEEK_CUR)
    parts: list[bytes] = []
    num_bytes = 0
    try:
        for part in _member_chunks(raw, member):
            num_bytes += len(part)
            parts.append(part)
            if num_bytes > member.size:
                raise ValueError(f"it unpacks to more than the {member.size:,} bytes stated")
    except (EOFError, MemoryError, lzma.LZMAError, struct.error, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno is not None:  # an I/O error; those of bz2 have no errno
            raise
        raise ValueError(str(error)) from error
    data = b"".join(parts)
    if len(data) < member.size:
        raise ValueError("it ends too early")
    if zlib.crc32(data) != member.crc:
        raise ValueError("its CRC does not match")
    return data


def _member_chunks(raw: IO[bytes], member: ZipMember) -> Iterator[bytes]:
    """Yield the uncompressed data of a member; stop soon after its stated size."""
    left = member.compressed

    def read(num_bytes: int) -> bytes:
        nonlocal left
        data = raw.read(max(0, min(num_bytes, left)))
        left -= len(data)
        return data

    if member.method == zipfile.ZIP_STORED:
        while data := read(_CHUNK_BYTES):
            yield data
        return
    if member.method == zipfile.ZIP_LZMA:
        decoder = _zip_lzma(read, member.size)
        # Such a stream needs no end mark.
        yield from _chunks(decoder, read, member.size)
        return
    is_bzip2 = member.method == zipfile.ZIP_BZIP2
    yield from _chunks(bz2.BZ2Decompressor() if is_bzip2 else _Zlib(-15), read)


def _zip_lzma(read: Callable[[int], bytes], num_bytes: int) -> _Decoder:
    """Return a decoder for a zip's LZMA, whose dictionary is not larger than the data."""
    (properties,) = struct.unpack("<2xH", read(4))
    packed, dictionary = struct.unpack("<BI", read(properties)[:5])
    rest, lc = divmod(packed, 9)
    pb, lp = divmod(rest, 5)
    size = max(4096, min(dictionary, num_bytes))
    settings = {"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings])


def _chunks(
    decoder: _Decoder, read: Callable[[int], bytes], at_most: int | None = None
) -> Iterator[bytes]:
    """Yield decoded data until the end mark, or until more than `at_most` bytes were yielded."""
    num_bytes = 0
    while not decoder.eof and (at_most is None or num_bytes < at_most):
        data = read(_CHUNK_BYTES) if decoder.needs_input else b""
        found = decoder.decompress(data, _CHUNK_BYTES)
        if not data and not found and not decoder.eof:
            raise EOFError("it ends too early")
        num_bytes += len(found)
        yield found


def decompress_tar(path: Path, scratch: Path) -> Path:
    """Decompress a tar file into the folder `scratch`, or reuse the result of an earlier call.

    Args:
        path: Compressed tar file (gzip, bzip2 or xz).
        scratch: Folder of decompressed files, which is created if necessary.

    Returns:
        The decompressed tar file. It is written atomically.

    Raises:
        ValueError: If the file is truncated, damaged, does not contain a tar, or expands to more
            than `MAX_EXPANSION` times its size.
        OSError: If writing fails, or would leave less than `RESERVED_BYTES` on the disk.
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
            _decompress(path, out, scratch)
            out.flush()
            os.fsync(out.fileno())
        os.utime(part, ns=(found.st_atime_ns, found.st_mtime_ns))
        part.replace(made)
    finally:
        part.unlink(missing_ok=True)
    return made


def _decompress(path: Path, out: IO[bytes], folder: Path) -> None:
    """Write the tar in `path` to `out`, a file in `folder`."""
    at_most = max(MIN_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
    chunks = _tar_chunks(path)
    block = b""
    while len(block) < tarfile.BLOCKSIZE and (data := next(chunks, b"")):
        block += data
    _expect_tar(block[: tarfile.BLOCKSIZE], path)
    num_bytes = 0
    for data in chain([block], chunks):
        num_bytes += len(data)
        if num_bytes > at_most:
            raise ValueError(
                f"{path} expands to more than {at_most:,} bytes, far more than images do: this "
                "looks like a decompression bomb; if you trust it, unpack it yourself and give the "
                "folder"
            )
        disk = shutil.disk_usage(folder)
        if disk.free - len(data) < min(RESERVED_BYTES, disk.total // 20):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        out.write(data)


def _expect_tar(block: bytes, path: Path) -> None:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(
            f"{path} holds no tar, or is damaged ({error}); give a folder, .zip or .tar"
        ) from error


def _tar_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed data of a file, which may consist of several streams."""
    with path.open("rb") as raw:
        rest = raw.read(_CHUNK_BYTES)
        magic, new = next(each for each in COMPRESSED.items() if rest.startswith(each[0]))

        def read(num_bytes: int) -> bytes:
            nonlocal rest
            data, rest = rest or raw.read(num_bytes), b""
            return data

        try:
            while rest.startswith(magic):
                decoder = new()
                for data in _chunks(decoder, read):
                    if data:
                        yield data
                rest = decoder.unused_data + rest
                while len(rest) < len(magic) and (more := raw.read(_CHUNK_BYTES)):
                    rest = (rest + more).lstrip(b"\0")  # some programs pad with zeros
        except (EOFError, MemoryError, lzma.LZMAError, zlib.error) as error:
            raise _untar_damaged(path, error) from error
        except OSError as error:
            if error.errno is not None:  # an I/O error; those of bz2 have no errno
                raise
            raise _untar_damaged(path, error) from error


def _untar_damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is truncated or damaged ({why}); fetch it again")
