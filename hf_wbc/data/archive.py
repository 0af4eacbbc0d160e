"""Read data set archives in place: a folder, a zip file, or a tar file, compressed or not.

The listing is validated before any file is read: no path may escape the archive, names must be
unique, and devices and links that leave the folder are rejected. What operating systems and file
servers leave behind (`hf_wbc.data.folder_walk`) is counted and ignored; other hidden files stay.
An `Archive` can be pickled, and each process reads through its own file handle.

A compressed tar is decompressed once into a scratch folder, which allows random access.
"""

import errno
import hashlib
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hf_wbc.data.archive_names import (
    is_readable,
    printable_name,
    safe_name,
    zip_encoding,
    zip_name,
)
from hf_wbc.data.decompress import (
    COMPRESSED,
    ZIP_METHODS,
    ZipMember,
    decompress_tar,
    read_zip_member,
)
from hf_wbc.data.file_kinds import LFS_MARK, LFS_POINTER
from hf_wbc.data.folder_walk import describe_junk, junk_kind, walk_folder
from hf_wbc.text import shorten_list

MAX_MEMBER_BYTES = 256 * 2**20
"""Largest uncompressed size of a file that is read, in bytes."""
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_AGAIN = "fetch it again"
_TAR_METADATA = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip
MAX_METADATA_BYTES = 16 * 2**10
"""Largest header of a tar that holds a long name or other facts about a file."""


@dataclass(frozen=True)
class _Member:
    name: str
    """POSIX path within the archive."""
    size: int
    """Uncompressed size in bytes."""
    mark: str
    """Checksum or modification time, which changes with the content."""
    place: Any = None
    """Location for the reader: a ZipMember, or the byte offset in a tar."""


class _ArchiveError(ValueError):
    """A fault that names the archive and the remedy."""


class Archive:
    """The regular files of an archive: their sorted paths, and their content on demand."""

    def __init__(
        self, path: Path, name_encoding: str | None = None, undecided: str | None = None
    ) -> None:
        self.path, self._name_encoding, self._undecided = path, name_encoding, undecided
        self._junk: Counter[str] = Counter()
        self._members, unreadable = _checked(self._list(), path, self._junk)
        self.names: tuple[str, ...] = tuple(sorted(self._members))
        """POSIX paths of the regular files, sorted."""
        self.unreadable_names: tuple[str, ...] = tuple(sorted(unreadable))
        """Paths of files that are left out because their names are not text."""
        self.num_bytes = {name: self._members[name].size for name in self.names}
        """Uncompressed size of each file as the archive states it; `read` returns no more."""
        self.digest = _digest(self._members[name] for name in self.names)
        """SHA-256 of paths, sizes and checksums or times; it identifies the content."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a summary should say about skipped files and followed links, a line each."""
        return (describe_junk(self._junk),) if self._junk else ()

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

    def _list(self) -> Iterator[_Member]:
        raise NotImplementedError

    def _read(self, member: _Member) -> bytes:
        raise NotImplementedError


def open_archive(
    path: Path, scratch: Path, name_encoding: str | None = None, undecided: str | None = None
) -> Archive:
    """Open a folder, a zip file, or a tar file, compressed or not.

    The format is detected from the first bytes, not from the file name.

    Args:
        path: Folder or archive file.
        scratch: Folder for the decompressed copy of a compressed tar, which later calls reuse.
        name_encoding: Encoding of file names that do not state theirs; None detects it.
        undecided: Encoding to assume if it cannot be detected, where names are only displayed.

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
    if head.startswith(LFS_MARK):
        raise ValueError(f"{path} is {LFS_POINTER.what}; {LFS_POINTER.remedy}")
    if head.startswith(_ZIP_HEADS):
        return _Zip(path, name_encoding, undecided)
    if head.startswith(tuple(COMPRESSED)):
        return _Tar(decompress_tar(path, scratch), name_encoding)
    return _Tar(path, name_encoding)


class _Folder(Archive):
    _notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    def _list(self) -> Iterator[_Member]:
        listing = walk_folder(self.path)
        if listing.outside:
            raise ValueError(
                f"{self.path}: a link leaves the folder: {shorten_list(listing.outside)}; put a "
                "copy in its place, or give the folder that contains both"
            )
        self._notes = tuple(listing.notes())
        for name in listing.files:
            try:
                found = (self.path / name).stat()
            except OSError as error:
                raise _refused(self.path, name, "is a link to nothing") from error
            if not stat.S_ISREG(found.st_mode):
                raise _refused(self.path, name, "is a device, pipe or socket")
            yield _Member(name, found.st_size, str(found.st_mtime_ns))

    def _read(self, member: _Member) -> bytes:
        with (self.path / member.name).open("rb") as file:
            return file.read(MAX_MEMBER_BYTES + 1)  # it may have grown


class _Zip(Archive):
    def _list(self) -> Iterator[_Member]:
        with _library(self.path), zipfile.ZipFile(self.path) as file:
            infos = file.infolist()
        encoding = zip_encoding(self.path, infos, self._name_encoding, self._undecided)
        left = self.path.stat().st_size
        for info in infos:
            name = zip_name(info, encoding)
            if name.endswith("/"):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _refused(self.path, name, "is a link or a device")
            if info.flag_bits & 0x1:
                raise ValueError(
                    f"{self.path}: {name} is encrypted; decrypt the archive and give that"
                )
            if info.compress_type not in ZIP_METHODS:
                raise ValueError(
                    f"{self.path}: {name} is compressed by method {info.compress_type}, which "
                    "this Python cannot read; unpack the archive and give the folder"
                )
            left -= info.compress_size
            if left < 0 or info.header_offset < 0:  # as in bombs
                raise _refused(self.path, name, "overlaps other files or is cut off")
            place = ZipMember(
                info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
            )
            yield _Member(name, info.file_size, f"{info.CRC:08x}", place)

    def _read(self, member: _Member) -> bytes:
        with self.path.open("rb") as raw:
            try:
                return read_zip_member(raw, member.place)
            except ValueError as error:
                raise _damaged(self.path, f"{member.name}: {error}") from error


class _TarHeader(tarfile.TarInfo):
    """A header whose size is plausible: negative sizes make `tarfile` loop forever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        is_metadata = found.type in (*_TAR_METADATA, tarfile.SOLARIS_XHDTYPE)
        if found.size < 0 or (is_metadata and found.size > MAX_METADATA_BYTES):
            raise tarfile.ReadError(f"a header states {found.size:,} bytes")
        return found


class _Tar(Archive):
    def _list(self) -> Iterator[_Member]:
        found, end = self.path.stat(), -1
        with self.path.open("rb") as raw:
            is_tar = raw.read(tarfile.BLOCKSIZE)[257:262] == b"ustar"
        with (
            _library(self.path, is_tar),
            tarfile.open(
                self.path, "r:", tarinfo=_TarHeader, encoding=self._name_encoding or "utf-8"
            ) as file,
        ):
            while info := file.next():
                file.members = []  # type: ignore[attr-defined]
                if file.offset <= end or info.size < 0:
                    raise tarfile.ReadError("a header states a negative size")
                end = file.offset
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise _refused(self.path, info.name, "is a link, a device or a sparse file")
                if info.offset_data + info.size > found.st_size:
                    raise _damaged(self.path, f"{info.name} is cut off")
                mark = f"{info.mtime} {found.st_mtime_ns}"  # tar stores no checksums
                yield _Member(info.name, info.size, mark, info.offset_data)
            end = file.offset
        with self.path.open("rb") as raw:
            raw.seek(end)
            if raw.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise _damaged(self.path, "it has no end mark")

    def _read(self, member: _Member) -> bytes:
        with self.path.open("rb") as raw:
            raw.seek(member.place)
            return raw.read(member.size)


@contextmanager
def _library(path: Path, is_archive: bool = True) -> Iterator[None]:
    """Report whatever `zipfile` or `tarfile` raises on a damaged file as a ValueError.

    Args:
        path: The archive.
        is_archive: Whether it begins like one.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # an I/O error
            raise
        raise _damaged(path, error) from error
    except _ArchiveError:
        raise
    except Exception as error:  # neither library documents what it raises
        if is_archive:
            raise _damaged(path, str(error) or type(error).__name__) from error
        raise ValueError(
            f"{path} is not an archive that can be read ({error}); give a folder, .zip or .tar"
        ) from error


def _checked(
    members: Iterable[_Member], path: Path, junk: Counter[str]
) -> tuple[dict[str, _Member], list[str]]:
    """Return the members by name, and names that are not text; junk is counted instead.

    Raises:
        ValueError: If a member is unsafe, or there are none.
    """
    kept: dict[str, _Member] = {}
    unreadable = []
    for member in members:
        name = safe_name(member.name)
        if name is None:
            raise _refused(path, printable_name(member.name), "points outside the archive")
        if name == ".":
            raise _refused(path, repr(member.name), "is not a file name")
        if kind := junk_kind(name):
            junk[kind] += 1
            continue
        if not is_readable(name):
            unreadable.append(name)
            continue
        if name in kept:
            raise _refused(path, name, "comes twice")
        kept[name] = _Member(name, member.size, member.mark, member.place)
    if not kept and not unreadable:
        raise ValueError(f"{path} holds no files; give the folder or archive as it was downloaded")
    return kept, unreadable


def _refused(path: Path, name: str, what: str) -> ValueError:
    return _ArchiveError(
        f"{path}: {name} {what}; nothing of such an archive is read: take the original one"
    )


def _damaged(path: Path, why: object) -> ValueError:
    return _ArchiveError(f"{path} is truncated or damaged ({why}); {_AGAIN}")


def _digest(members: Iterable[_Member]) -> str:
    lines = hashlib.sha256()
    for member in members:
        lines.update(f"{member.name}\0{member.size}\0{member.mark}\n".encode())
    return lines.hexdigest()
