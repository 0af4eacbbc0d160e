"""Refuse files that must never be published, by content as well as by name.

A pickle can run code on the machine that loads it. EXIF and other metadata can contain names, dates
and places of patients.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hf_wbc.hub.publication import (
    CARD,
    MANIFEST,
    Publication,
    check_tag,
    read_bytes,
    total_size,
)
from hf_wbc.text import shorten_list

__all__ = ["IMAGES", "PICKLED", "check_labels", "check_publication"]

PICKLED = (
    ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras",
    ".msgpack", ".pyc",
)  # fmt: skip
"""Suffixes of files that are pickles or may contain one."""
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_METADATA = frozenset(("exif", "comment", "xmp", "photoshop", "iptc", "XML:com.adobe.xmp"))
"""Keys of Pillow's `Image.info` whose content may identify a person."""
_HARMLESS = frozenset(("Software",))
"""Text keys of a PNG that are allowed: matplotlib writes its own name."""
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")
_TEXT_BYTES = 5_000_000


def check_publication(publication: Publication, *, is_complete: bool = True) -> None:
    """Check that every file may be published.

    Args:
        publication: The files.
        is_complete: Whether a model's labels must be there; False for a training checkpoint.

    Raises:
        ValueError: Lists files that must not be published, are missing or are damaged.
    """
    check_tag(publication.tag)
    if CARD not in publication.files:
        raise ValueError(f"a {publication.kind} needs a {CARD} that describes it; write one")
    _check_names(publication)
    _check_readable(publication)
    for what, found, remedy in (
        ("pickles, which can run code on the machine that loads them", _pickles(publication.files),
         "save weights as safetensors, with `save_pretrained`, and leave these out"),
        ("images with metadata", _with_metadata(publication.files),
         "save them without metadata, which may identify a person"),
        ("files that contain a token of the Hub", _with_token(publication.files),
         "remove it, and revoke it in your account's settings"),
        ("damaged weights", _damaged(publication.files), "write them again"),
    ):  # fmt: skip
        if names := list(found):
            raise ValueError(f"{len(names)} {what}: {shorten_list(names, 10)}; {remedy}")
    if publication.kind == "model" and is_complete:
        check_labels(publication)


def check_labels(publication: Publication) -> None:
    """ValueError unless a model's labels are the eleven classes in their order."""
    from hf_wbc.models.load import require_labels

    if "config.json" not in publication.files:
        raise ValueError("a model needs a config.json; give the model folder of a finished run")
    try:
        config = json.loads(read_bytes(publication.files["config.json"]))
        labels = config.get("id2label") or {}
        names = tuple(labels[key] for key in sorted(labels, key=int))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"config.json is damaged ({error}); write the model again") from error
    require_labels("config.json", names)


def _check_names(publication: Publication) -> None:
    strange = [
        path
        for path in publication.files
        if path.startswith("/")
        or "\\" in path
        or any(part in ("", ".", "..", ".git", ".cache") for part in path.split("/"))
        or path == MANIFEST
        or not path.isprintable()
    ]
    if strange:
        raise ValueError(
            f"{shorten_list(strange)}: not valid file names in a repository; leave them out"
        )
    folded: dict[str, str] = {}
    for path in publication.files:
        if (other := folded.setdefault(path.casefold(), path)) != path:
            raise ValueError(
                f"{other} and {path} are the same file on file systems that ignore case; rename one"
            )


def _check_readable(publication: Publication) -> None:
    missing = [
        str(file)
        for file in publication.files.values()
        if isinstance(file, Path) and not file.is_file()
    ]
    if missing:
        raise ValueError(f"{shorten_list(missing)} cannot be read; build the publication again")


def _pickles(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Pickles by suffix and by content, as a name can mislead."""
    for path, file in files.items():
        if path.lower().endswith(PICKLED) or _is_pickle(file):
            yield path


def _is_pickle(file: Path | bytes) -> bool:
    """Whether it starts like a pickle of protocol 2 to 5, or is a zip that contains one."""
    start = read_bytes(file, 4)
    if start == b"PK\x03\x04":
        return any(name.lower().endswith(PICKLED) for name in _members(file))
    return len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5


def _members(file: Path | bytes) -> list[str]:

    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return []


def _with_metadata(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Images with EXIF, XMP, comments or text."""
    from PIL import Image

    from hf_wbc.data.image_io import FORMATS

    for path, file in files.items():
        if not path.lower().endswith(IMAGES):
            continue
        try:
            with Image.open(io.BytesIO(read_bytes(file)), formats=(*FORMATS, "GIF")) as image:
                image.load()
                found = {key for key in image.info if key in _METADATA}
                found |= set(getattr(image, "text", ())) - _HARMLESS
                if image.format != "TIFF" and image.getexif():
                    found.add("exif")
        except Exception as error:  # Pillow does not document the errors of its parsers
            raise ValueError(f"{path} is a damaged image ({error}); save it again") from error
        if found:
            yield f"{path} ({', '.join(sorted(found))})"


def _with_token(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    for path, file in files.items():
        is_text = total_size(file) <= _TEXT_BYTES and not path.endswith(
            (".parquet", ".safetensors")
        )
        if is_text and _TOKEN.search(read_bytes(file)):
            yield path


def _damaged(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Safetensors files whose header does not match their length."""
    for path, file in files.items():
        if not path.endswith(".safetensors"):
            continue
        length = int.from_bytes(read_bytes(file, 8), "little")
        try:
            header = json.loads(read_bytes(file, 8 + length)[8:]) if length < 100_000_000 else {}
            end = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            yield path
        else:
            if total_size(file) != 8 + length + end:
                yield path
