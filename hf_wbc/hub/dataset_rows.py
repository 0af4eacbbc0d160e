"""The rows of a dataset before it leaves the house: names as declared, images without words."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from hf_wbc.data import image_io
from hf_wbc.prepare.source import Source
from hf_wbc.text import some

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"sBIT")
)
"""Chunks that tell nothing but pixels; texts, times and EXIF have others."""
_NUM_SHOWN = 20


def check_rows(files: Sequence[Path], source: Source) -> None:
    """ValueError with the list of what could tell of a person: image ids outside the source's
    pattern, paths, and images with metadata."""
    from hf_wbc.data.parallel import num_cores

    with ThreadPoolExecutor(num_cores()) as pool:
        found = {
            fault for faults in pool.map(lambda f: _faults(f, source), files) for fault in faults
        }
    names = sorted({name for kind, name in found if kind == "name"})
    if names:
        raise ValueError(
            f"{len(names)} image ids of {source.name} do not match its pattern {source.image_id} "
            f"and may be names of people: {some(names, _NUM_SHOWN)}; rename the images, and "
            "prepare the dataset again"
        )
    images = sorted({name for kind, name in found if kind == "image"})
    if images:
        raise ValueError(
            f"{len(images)} images of {source.name} carry EXIF, comments or other metadata: "
            f"{some(images, _NUM_SHOWN)}; prepare the dataset again with `hf-wbc prepare`, which "
            "leaves them out"
        )
    others = sorted({name for kind, name in found if kind == "domain"})
    if others:
        raise ValueError(
            f"the rows say that they are of {some(others)}, and the folder that it is {source.name}"
            "; prepare the dataset again"
        )


def is_bare(data: bytes) -> bool:
    """Whether an image file holds pixels and nothing else."""
    if image_io.is_jpeg(data):
        try:
            return image_io.strip_metadata(data) == data
        except ValueError:
            return False
    if not data.startswith(_PNG):
        return False
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind not in _PNG_CHUNKS:
            return False
        at += 12 + length
        if kind == b"IEND":
            return at == len(data)
    return False


def _faults(path: Path, source: Source) -> list[tuple[str, str]]:
    """Kind and name of what is wrong in one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pattern = re.compile(source.image_id)
    found = []
    try:
        for batch in pq.ParquetFile(path).iter_batches(columns=["image", "image_id", "domain"]):
            images = batch.column("image")
            places = images.field("path").to_pylist()
            ids = [str(image_id) for image_id in batch.column("image_id").to_pylist()]
            found += [("domain", str(name)) for name in set(batch.column("domain").to_pylist())]
            for image_id, place, data in zip(ids, places, images.field("bytes"), strict=True):
                if not pattern.fullmatch(image_id):
                    found.append(("name", image_id))
                elif place is not None and _stem(place) != _stem(PurePosixPath(image_id).name):
                    found.append(("name", str(place)))
                if data.as_py() is None or not is_bare(data.as_py()):
                    found.append(("image", image_id))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}); prepare the dataset again") from error
    return [fault for fault in found if fault != ("domain", source.name)]


def _stem(name: str) -> str:
    """The name without its suffix, which a crop has of its own; a path stays one."""
    return str(PurePosixPath(name).with_suffix(""))
