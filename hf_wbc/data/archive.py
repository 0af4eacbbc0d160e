"""Reading an archive in place: a folder, a zip or a tar, whichever the user holds.

What is listed is checked before anything is read: no path may climb out, no name may come twice,
nothing may be a device or a link that leaves a folder. An archive can be pickled, and each process
reads through its own handle.
Files that operating systems leave behind (`__MACOSX/`, `._*`, `.DS_Store`, `Thumbs.db`,
`desktop.ini`) are not members; every other hidden file is.

A compressed tar, decompressed once: only then can single files of it be read at their place."""

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
"""First bytes of a compressed file to what opens it."""
_CHUNK_BYTES = 2**20


def decompress_tar(path: Path, scratch: Path) -> Path:
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
        raise _untar_damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's own; bz2's has no number
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
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_ZIP_METHODS = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_AGAIN = "fetch it again"


@dataclass(frozen=True)
class _Member:
    name: str
    """POSIX path inside the archive."""
    size: int
    """Bytes when unpacked."""
    mark: str
    """What changes when its content does: a time or a checksum."""
    place: Any = None
    """Where the reader finds it: a name in a zip, an offset in a tar."""


class Archive:
    """The files of an archive: their sorted paths and, one at a time, their bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members = _checked(self._list(), path)
        self.names: tuple[str, ...] = tuple(sorted(self._members))
        """POSIX paths of the regular files."""
        self.digest = _digest(self._members[name] for name in self.names)
        """SHA-256 over paths, sizes and checksums or times: equal where the content is."""

    def read(self, name: str) -> bytes:
        """A file's bytes; ValueError when it is damaged or no image can be that large."""
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
        """Give what is open back; reading opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _list(self) -> Iterator[_Member]:
        raise NotImplementedError

    def _read(self, member: _Member) -> bytes:
        raise NotImplementedError


def open_archive(path: Path, scratch: Path) -> Archive:
    """The archive at `path`: a folder, .zip, .tar, or a compressed .tar.

    What it is, is read from its first bytes, not from its name. A compressed tar is decompressed
    once into the folder `scratch`, and found there again. ValueError when it is missing, truncated,
    encrypted or no archive, and for members that no data set needs: paths that climb out, links,
    devices, two of one name.
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
                # Some writers on Windows use its own separator.
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
        # A forked process would share, and move, its parent's place in the file.
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
                    mark = f"{info.mtime} {found.st_mtime_ns}"  # a tar has no checksums
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
    """Members by name without what operating systems leave; ValueError as `open_archive` says."""
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
    """The name without `./`; ValueError when it points outside or is no text."""
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
    except (OSError, RuntimeError):  # it leads nowhere, or round in a circle
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
