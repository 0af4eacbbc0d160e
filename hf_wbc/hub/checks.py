"""What must never be published, whatever it is called: pickles, hidden facts, strange names.

A pickle runs code on whoever loads it; EXIF and its like carry names, dates and places of patients.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hf_wbc.hub.publication import CARD, MANIFEST, Publication, read_bytes, total_size
from hf_wbc.hub.repository import check_tag
from hf_wbc.text import shorten_list

PICKLED = (
    ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras",
    ".msgpack", ".pyc",
)  # fmt: skip
"""Suffixes of files that are pickles, or may hold one."""
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_TELLING = frozenset(("exif", "comment", "xmp", "photoshop", "iptc", "XML:com.adobe.xmp"))
"""What Pillow says of an image that may say something of a person."""
_HARMLESS = frozenset(("Software",))
"""Texts in a PNG that say nothing: matplotlib writes its own name."""
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")
_TEXT_BYTES = 5_000_000


def check_publication(publication: Publication, *, finished: bool = True) -> None:
    """ValueError that lists what must not go out, or is missing or damaged.

    Of what is not `finished`, such as a checkpoint, labels are not asked.
    """
    check_tag(publication.tag)
    if CARD not in publication.files:
        raise ValueError(f"a {publication.kind} without {CARD} says nothing of itself; write one")
    _check_names(publication)
    _check_readable(publication)
    for what, found, remedy in (
        ("pickles, which run code on whoever loads them", _pickles(publication.files),
         "save weights as safetensors, with `save_pretrained`, and leave these out"),
        ("images with hidden facts", _told(publication.files),
         "write them anew without metadata: they may tell of a person"),
        ("files with a token of the Hub", _with_token(publication.files),
         "take it out, and make it invalid in the settings of your account"),
        ("damaged weights", _damaged(publication.files), "write them anew"),
    ):  # fmt: skip
        if names := list(found):
            raise ValueError(f"{len(names)} {what}: {shorten_list(names, 10)}; {remedy}")
    if publication.kind == "model" and finished:
        check_labels(publication)


def check_labels(publication: Publication) -> None:
    """ValueError unless a model's labels are the eleven, in their order."""
    from hf_wbc.models.load import require_labels

    if "config.json" not in publication.files:
        raise ValueError("a model needs a config.json; give the model folder of a finished run")
    config = json.loads(read_bytes(publication.files["config.json"]))
    labels = config.get("id2label") or {}
    require_labels("config.json", tuple(labels[key] for key in sorted(labels, key=int)))


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
        raise ValueError(f"{shorten_list(strange)} cannot be names in a repository; leave them out")
    folded: dict[str, str] = {}
    for path in publication.files:
        if (other := folded.setdefault(path.casefold(), path)) != path:
            raise ValueError(f"{other} and {path} are one file on many disks; rename one of them")


def _check_readable(publication: Publication) -> None:
    missing = [
        str(file)
        for file in publication.files.values()
        if isinstance(file, Path) and not file.is_file()
    ]
    if missing:
        raise ValueError(f"{shorten_list(missing)} cannot be read; build what is published again")


def _pickles(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """By suffix, and by what is in them: a name can lie."""
    for path, file in files.items():
        if path.lower().endswith(PICKLED) or _is_pickle(file):
            yield path


def _is_pickle(file: Path | bytes) -> bool:
    """Whether it begins as a pickle of protocol 2 to 5 does, or is a zip that holds one."""
    start = read_bytes(file, 4)
    if start == b"PK\x03\x04":
        return any(name.lower().endswith(PICKLED) for name in _members(file))
    return len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5


def _members(file: Path | bytes) -> list[str]:
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def _told(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Images with EXIF, XMP, comments or texts."""
    import io

    from PIL import Image, UnidentifiedImageError

    for path, file in files.items():
        if not path.lower().endswith(IMAGES):
            continue
        try:
            with Image.open(io.BytesIO(read_bytes(file))) as image:
                image.load()
                told = {key for key in image.info if key in _TELLING}
                told |= set(getattr(image, "text", ())) - _HARMLESS
                if image.format != "TIFF" and image.getexif():
                    told.add("exif")
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise ValueError(f"{path} is a damaged image ({error}); write it anew") from error
        if told:
            yield f"{path} ({', '.join(sorted(told))})"


def _with_token(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    for path, file in files.items():
        is_text = total_size(file) <= _TEXT_BYTES and not path.endswith(
            (".parquet", ".safetensors")
        )
        if is_text and _TOKEN.search(read_bytes(file)):
            yield path


def _damaged(files: Mapping[str, Path | bytes]) -> Iterator[str]:
    """Safetensors whose header does not fit their length."""
    for path, file in files.items():
        if not path.endswith(".safetensors"):
            continue
        length = int.from_bytes(read_bytes(file, 8), "little")
        try:
            header = json.loads(read_bytes(file, 8 + length)[8:]) if length < 100_000_000 else {}
            end = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
        except (ValueError, KeyError, TypeError):
            yield path
        else:
            if total_size(file) != 8 + length + end:
                yield path
