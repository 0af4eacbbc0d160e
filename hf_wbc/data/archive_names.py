"""Names in archives and datasets: which text they are, and whether files named so stay inside.

Zip files from before the Unicode flag, and those of many tools on Windows, store names in the code
page of the computer that made them, without saying which. The encoding is detected where the names
decide it: a Unicode path in the extra field (Info-ZIP, 7-Zip, WinRAR), or names that are valid
UTF-8. Otherwise the user has to name it, because any byte string is valid in several code pages.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from unicodedata import category

__all__ = [
    "domain_name", "is_readable", "name_fault", "name_faults", "printable_name", "safe_name",
    "zip_encoding", "zip_name",
]  # fmt: skip

MAX_DOMAIN_NAME = 100

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
"""Id of the extra field that repeats the name in UTF-8."""
_LIKELY = ("gbk", "cp932", "cp949", "cp1252", "cp437")
"""Code pages of which an error message shows a reading: Chinese, Japanese, Korean, Western."""

_NAME_FAULTS = {
    "Cs": ("is not text in UTF-8", "are not text in UTF-8"),
    "Cc": ("holds control characters", "hold control characters"),
}
"""What is wrong with one or several names that have letters of a Unicode category."""


def zip_encoding(
    path: Path,
    infos: Sequence[zipfile.ZipInfo],
    given: str | None = None,
    undecided: str | None = None,
) -> str | None:
    """Return the encoding of the names that do not state theirs; None if all of them do.

    Args:
        path: The zip file, for error messages.
        infos: Its directory, read as cp437 (the default of `zipfile`).
        given: Encoding that the user names, which overrides the detection.
        undecided: Encoding to return if it cannot be detected, instead of an error.

    Raises:
        ValueError: If the encoding cannot be detected, is unknown, or does not fit the names.
    """
    raw = [
        info.orig_filename.encode("cp437")
        for info in infos
        if not info.flag_bits & _UTF8_FLAG and not info.orig_filename.isascii()
    ]
    if given is not None:
        return _checked_encoding(path, raw, given)
    if not raw or all(
        info.orig_filename.isascii() or info.flag_bits & _UTF8_FLAG or _unicode_path(info)
        for info in infos
    ):
        return None
    if all(_decoded(name, "utf-8") is not None for name in raw):
        return "utf-8"
    if undecided is not None:
        return undecided
    longest = max(raw, key=len)
    readings = ", ".join(
        f"{encoding} {text}" for encoding in _LIKELY if (text := _decoded(longest, encoding))
    )
    raise ValueError(
        f"{path}: {len(raw):,} file names are in an unstated encoding; one of them reads: "
        f"{readings}. Name the right one with --zip-encoding"
    )


def zip_name(info: zipfile.ZipInfo, encoding: str | None) -> str:
    """Return the readable name of a member, with slashes; some tools on Windows write backslashes.

    Args:
        info: The member.
        encoding: From `zip_encoding`.
    """
    name = info.orig_filename.partition("\0")[0]
    if encoding is not None and not info.flag_bits & _UTF8_FLAG:
        name = name.encode("cp437").decode(encoding, "surrogateescape")
    return (_unicode_path(info) or name).replace("\\", "/")


def _checked_encoding(path: Path, raw: Sequence[bytes], given: str) -> str:
    for name in (b"", *raw):
        try:
            name.decode(given)
        except LookupError:
            raise ValueError(
                f"--zip-encoding {given!r} is not an encoding; use one such as {', '.join(_LIKELY)}"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(
                f"{path}: the file name {name!r} is not {given}; choose another --zip-encoding"
            ) from None
    return given


def _decoded(name: bytes, encoding: str) -> str | None:
    """Return the text, or None if the bytes are not printable text in this encoding."""
    try:
        text = name.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """Return the name in the extra field, if it belongs to the stored name."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        data, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(data) > 5 and data[0] == 1:
            stored = info.orig_filename.encode("cp437", "replace")
            if int.from_bytes(data[1:5], "little") == zlib.crc32(stored):
                return _decoded(data[5:], "utf-8")
    return None


def safe_name(name: str) -> str | None:
    """Return the name without `./`, or None if it points outside the archive."""
    alike = name.replace("\\", "/")
    has_drive = len(alike) > 1 and alike[1] == ":" and alike[0].isalpha()
    if alike.startswith("/") or has_drive or ".." in alike.split("/"):
        return None
    return PurePosixPath(name).as_posix()


def is_readable(name: str) -> bool:
    """Return whether a file name is text: valid Unicode without control characters."""
    return name_fault(name) is None


def name_fault(name: str) -> str | None:
    r"""Return why a file name is not text; None if it is.

    >>> name_fault("a\tb.png"), name_fault("caf\udce9.png"), name_fault("Zelle ä.png")
    ('its name holds control characters', 'its name is not text in UTF-8', None)
    """
    kind = _fault_kind(name)
    return None if kind is None else f"its name {_NAME_FAULTS[kind][0]}"


def name_faults(names: Sequence[str]) -> str:
    """Return what is wrong with several file names, of which none is text."""
    found = set(map(_fault_kind, names))
    return " or ".join(many for kind, (_, many) in _NAME_FAULTS.items() if kind in found)


def _fault_kind(name: str) -> str | None:
    """Return the category of `_NAME_FAULTS` that a file name has letters of; None if it is text."""
    found = set() if name.isprintable() else set(map(category, name))
    return next((kind for kind in _NAME_FAULTS if kind in found), None)


def printable_name(name: str) -> str:
    r"""Return a name with escapes for what is not text: `caf\xe9.png` for a name in Latin-1."""
    return "".join(
        letter
        if category(letter) not in ("Cc", "Cs")
        else f"\\x{ord(letter) - 0xDC00 if 0xDC80 <= ord(letter) <= 0xDCFF else ord(letter):02x}"
        for letter in name
    )


def domain_name(ref: str, name: object) -> str:
    """Return the name that a dataset states for its domain; it becomes part of file names.

    Raises:
        ValueError: If it is no name of a file, so that files would be written elsewhere.
    """
    is_name = isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_DOMAIN_NAME
    if not is_name or name in (".", "..") or any(sign in str(name) for sign in "/\\"):
        raise ValueError(
            f"{ref}: the domain is {str(name)[:MAX_DOMAIN_NAME]!r}; a name has 1 to "
            f"{MAX_DOMAIN_NAME} characters without slashes, such as acevedo_20; prepare it "
            "again"
        )
    return str(name)
