"""Read data set archives in place: a folder, a zip file, or a tar file, compressed or not.

The listing is validated before any file is read: no path may escape the archive, names must be
unique, and devices and links that leave the folder are rejected. Files that operating systems leave
behind (`__MACOSX/`, `._*`, `.DS_Store`, `Thumbs.db`, `desktop.ini`) are ignored; other hidden files
are kept. An `Archive` can be pickled, and each process reads through its own file handle.

A compressed tar is decompressed once into a scratch folder, which allows random access.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self
from unicodedata import category

COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""Opener of each compression format, by the first bytes of the file."""
_CHUNK_BYTES = 2**20


def decompress_tar(path: Path, scratch: Path) -> Path:
    """Decompress a tar file into the folder `scratch`, or reuse the result of an earlier call.

    Args:
        path: Compressed tar file (gzip, bzip2 or xz).
        scratch: Folder of decompressed files, which is created if necessary.

    Returns:
        The decompressed tar file. It is written atomically.

    Raises:
        ValueError: If the file is truncated, damaged, or does not contain a tar.
        OSError: If writing fails, for example because the disk is full.
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
        raise _untar_damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:  # an I/O error; those of bz2 have no errno
            raise
        raise _untar_damaged(path, error) from error


def _expect_tar(block: bytes, path: Path) -> None:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(
            f"{path} holds no tar, or is damaged ({error}); give a folder, .zip or .tar"
        ) from error


def _untar_damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is truncated or damaged ({why}); fetch it again")


MAX_MEMBER_BYTES = 256 * 2**20
"""Largest uncompressed size of a file that is read, in bytes."""
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_ZIP_METHODS = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_AGAIN = "fetch it again"


@dataclass(frozen=True)
class _Member:
    name: str
    """POSIX path within the archive."""
    size: int
    """Uncompressed size in bytes."""
    mark: str
    """Checksum or modification time, which changes with the content."""
    place: Any = None
    """Location for the reader: the stored name in a zip, the byte offset in a tar."""


class Archive:
    """The regular files of an archive: their sorted paths, and their content on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members = _checked(self._list(), path)
        self.names: tuple[str, ...] = tuple(sorted(self._members))
        """POSIX paths of the regular files, sorted."""
        self.digest = _digest(self._members[name] for name in self.names)
        """SHA-256 of paths, sizes and checksums or times; it identifies the content."""

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Args:
            name: One of `names`.

        Raises:
            ValueError: If there is no such file, it is damaged, or it is larger than
                `MAX_MEMBER_BYTES`.
        """
        member = self._members.get(name)
        if member is None:
            raise ValueError(f"{self.path} holds no file {name!r}")
        if member.size > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{self.path}: {name} unpacks to {member.size:,} bytes, more than "
                f"{MAX_MEMBER_BYTES:,}; it is not a cell's image"
            )
        data = self._read(member)
        if len(data) != member.size:
            raise ValueError(
                f"{self.path}: {name} has {len(data):,} bytes instead of {member.size:,}; "
                f"the archive changed or is truncated; {_AGAIN}"
            )
        return data

    def close(self) -> None:
        """Close open file handles; reading opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _list(self) -> Iterator[_Member]:
        raise NotImplementedError

    def _read(self, member: _Member) -> bytes:
        raise NotImplementedError


def open_archive(path: Path, scratch: Path) -> Archive:
    """Open a folder, a zip file, or a tar file, compressed or not.

    The format is detected from the first bytes, not from the file name.

    Args:
        path: Folder or archive file.
        scratch: Folder for the decompressed copy of a compressed tar, which later calls reuse.

    Raises:
        ValueError: If the archive is missing, truncated, encrypted or in an unknown format, or
            contains unsafe members: paths that escape the archive, links, devices, duplicate names.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise ValueError(f"no archive at {path}; give the downloaded folder, .zip or .tar")
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder; give a folder, .zip or .tar")
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if not head:
        raise ValueError(f"{path} is empty; {_AGAIN}")
    if head.startswith(_ZIP_HEADS):
        return _Zip(path)
    if head.startswith(tuple(COMPRESSED)):
        return _Tar(decompress_tar(path, scratch))
    return _Tar(path)


class _Folder(Archive):
    def _list(self) -> Iterator[_Member]:
        root = self.path.resolve()
        pending = [self.path]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    name = Path(entry.path).relative_to(self.path).as_posix()
                    if entry.is_symlink() and not _is_file_within(Path(entry.path), root):
                        raise _refused(
                            self.path, name, "is a link, and not to a file of the folder"
                        )
                    if entry.is_dir():
                        pending.append(Path(entry.path))
                        continue
                    found = entry.stat()
                    if not stat.S_ISREG(found.st_mode):
                        raise _refused(self.path, name, "is a device, pipe or socket")
                    yield _Member(name, found.st_size, str(found.st_mtime_ns))

    def _read(self, member: _Member) -> bytes:
        return (self.path / member.name).read_bytes()


class _Zip(Archive):
    _handle: zipfile.ZipFile | None = None
    _process = 0

    def close(self) -> None:
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _list(self) -> Iterator[_Member]:
        with self._open() as file:
            for info in file.infolist():
                # Some tools on Windows write backslashes.
                name = info.filename.replace("\\", "/")
                if info.is_dir() or name.endswith("/"):
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    raise _refused(self.path, name, "is a link or a device")
                if info.flag_bits & 0x1:
                    raise ValueError(
                        f"{self.path}: {name} is encrypted; decrypt the archive and give that"
                    )
                if info.compress_type not in _ZIP_METHODS:
                    raise ValueError(
                        f"{self.path}: {name} is compressed by method {info.compress_type}, which "
                        "this Python cannot read; unpack the archive and give the folder"
                    )
                yield _Member(name, info.file_size, f"{info.CRC:08x}", info.filename)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise _damaged(self.path, error) from error

    def _read(self, member: _Member) -> bytes:
        # A forked process would share its parent's file position.
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = self._open(), os.getpid()
        try:
            return self._handle.read(member.place)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _damaged(self.path, f"{member.name}: {error}") from error


class _Tar(Archive):
    def _list(self) -> Iterator[_Member]:
        found = self.path.stat()
        try:
            with tarfile.open(self.path, "r:") as file:
                while info := file.next():
                    file.members = []  # type: ignore[attr-defined]
                    if info.isdir():
                        continue
                    if not info.isreg() or info.issparse():
                        raise _refused(self.path, info.name, "is a link, a device or a sparse file")
                    if info.offset_data + info.size > found.st_size:
                        raise _damaged(self.path, f"{info.name} is cut off")
                    mark = f"{info.mtime} {found.st_mtime_ns}"  # tar stores no checksums
                    yield _Member(info.name, info.size, mark, info.offset_data)
                end = file.offset
        except tarfile.TarError as error:
            raise self._not_readable(error) from error
        with self.path.open("rb") as raw:
            raw.seek(end)
            if raw.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise _damaged(self.path, "it has no end mark")

    def _not_readable(self, error: tarfile.TarError) -> ValueError:
        with self.path.open("rb") as raw:
            if raw.read(tarfile.BLOCKSIZE)[257:262] == b"ustar":
                return _damaged(self.path, error)
        return ValueError(
            f"{self.path} is not an archive that can be read ({error}); give a folder, .zip or .tar"
        )

    def _read(self, member: _Member) -> bytes:
        with self.path.open("rb") as raw:
            raw.seek(member.place)
            return raw.read(member.size)


def _checked(members: Iterable[_Member], path: Path) -> dict[str, _Member]:
    """Return the members by name without operating system files; raise ValueError if unsafe."""
    kept: dict[str, _Member] = {}
    for member in members:
        name = _safe(member.name, path)
        parts = name.split("/")
        if "__MACOSX" in parts or parts[-1] in _JUNK or parts[-1].startswith("._"):
            continue
        if name in kept:
            raise _refused(path, name, "comes twice")
        kept[name] = _Member(name, member.size, member.mark, member.place)
    if not kept:
        raise ValueError(f"{path} holds no files; give the folder or archive as it was downloaded")
    return kept


def _safe(name: str, path: Path) -> str:
    """Return the name without `./`; raise ValueError if it escapes the archive or is not text."""
    alike = name.replace("\\", "/")
    has_drive = len(alike) > 1 and alike[1] == ":" and alike[0].isalpha()
    if alike.startswith("/") or has_drive or ".." in alike.split("/"):
        raise _refused(path, name, "points outside the archive")
    if not name.isprintable() and any(category(letter) in ("Cc", "Cs") for letter in name):
        raise ValueError(f"{path}: the file name {name!r} is not readable text; rename the file")
    return PurePosixPath(name).as_posix()


def _is_file_within(link: Path, root: Path) -> bool:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # a dangling or circular link
        return False
    return target.is_file() and target.is_relative_to(root)


def _refused(path: Path, name: str, what: str) -> ValueError:
    return ValueError(
        f"{path}: {name} {what}; nothing of such an archive is read: take the original one"
    )


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is truncated or damaged ({why}); {_AGAIN}")


def _digest(members: Iterable[_Member]) -> str:
    lines = hashlib.sha256()
    for member in members:
        lines.update(f"{member.name}\0{member.size}\0{member.mark}\n".encode())
    return lines.hexdigest()
