"""A prepared dataset as a publication: what `hf-wbc prepare` wrote, for those who may see it.

A dataset's card as it is published: where others load it from, and its classes as a picture.

The rows of a dataset before it leaves the house: names as declared, images without words."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hf_wbc.data import image_io
from hf_wbc.data.dataset import check_schema, parquet_shards
from hf_wbc.data.schema import CONFIGS, DEFAULT_CONFIG, SPLITS
from hf_wbc.hub.card import CardLocation, card_location
from hf_wbc.hub.publication import CARD, Destination, Publication
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.preparation.work_folder import PROVENANCE
from hf_wbc.records import read_json
from hf_wbc.taxonomy import NAMES, NUM_CLASSES
from hf_wbc.text import shorten_list

PICTURE = "classes.png"
ALT = "Images by class and split"
_PLACE = re.compile(r'^place = ".*$', re.MULTILINE)
_LOADING = 'load_dataset(place, "cropped", split="train")'
_CLASSES = "## Classes\n"
_FRONT = re.compile(r"---\n.*?\n(?=---\n)", re.DOTALL)
_GATE = """\
extra_gated_heading: Ask for access to {title}
extra_gated_prompt: >-
  Nothing says that these images may be passed on. Whoever gets access keeps them to themselves,
  publishes none of them, and does not try to find out whose blood it is.
extra_gated_button_content: I agree, and ask for access
"""


def published_card(text: str, source: ArchiveSpec, place: CardLocation) -> str:
    """The card that `hf-wbc prepare` wrote, for those who load it from `place`.

    A source that must not be passed on gets the words of a gate, for an owner who lets others ask
    for access; what somebody has changed in the card by hand stays.
    """
    text = _PLACE.sub(lambda _: f'place = "{place.name}"', text, count=1)
    text = text.replace(_LOADING, f"{_LOADING[:-1]}{place.pin})", 1)
    if _CLASSES in text and PICTURE not in text:
        text = text.replace(_CLASSES, f"{_CLASSES}\n![{ALT}]({PICTURE})\n", 1)
    if not source.redistributable and "extra_gated_prompt" not in text:
        gate = _GATE.format(title=source.name)
        text = _FRONT.sub(lambda front: front[0] + gate, text, count=1)
    return text


def class_picture(shards: Sequence[Path], splits: Sequence[str]) -> bytes:
    """PNG of images by class and split, read from the rows; unlabelled ones are not in it.

    `shards` are the Parquet files of one configuration, and `splits` their splits.
    """
    import pyarrow.parquet as pq

    from hf_wbc.plots.class_distribution import draw_class_matrix
    from hf_wbc.plots.html import png

    counts = {split: np.zeros(NUM_CLASSES, np.int64) for split in dict.fromkeys(splits)}
    for shard, split in zip(shards, splits, strict=True):
        labels = pq.read_table(shard, columns=["label"])["label"].to_numpy()
        counts[split] += np.bincount(labels[labels >= 0], minlength=NUM_CLASSES)
    named = {
        split: dict(zip(NAMES, numbers.tolist(), strict=True)) for split, numbers in counts.items()
    }
    return png(draw_class_matrix(named))


_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"sBIT")
)
"""Chunks that tell nothing but pixels; texts, times and EXIF have others."""
_NUM_SHOWN = 20


def check_rows(files: Sequence[Path], source: ArchiveSpec) -> None:
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
            f"and may be names of people: {shorten_list(names, _NUM_SHOWN)}; rename the images, and "
            "prepare the dataset again"
        )
    images = sorted({name for kind, name in found if kind == "image"})
    if images:
        raise ValueError(
            f"{len(images)} images of {source.name} carry EXIF, comments or other metadata: "
            f"{shorten_list(images, _NUM_SHOWN)}; prepare the dataset again with `hf-wbc prepare`, which "
            "leaves them out"
        )
    others = sorted({name for kind, name in found if kind == "domain"})
    if others:
        raise ValueError(
            f"the rows say that they are of {shorten_list(others)}, and the folder that it is {source.name}"
            "; prepare the dataset again"
        )


def is_unprovenanced(data: bytes) -> bool:
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


def _faults(path: Path, source: ArchiveSpec) -> list[tuple[str, str]]:
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
                if data.as_py() is None or not is_unprovenanced(data.as_py()):
                    found.append(("image", image_id))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}); prepare the dataset again") from error
    return [fault for fault in found if fault != ("domain", source.name)]


def _stem(name: str) -> str:
    """The name without its suffix, which a crop has of its own; a path stays one."""
    return str(PurePosixPath(name).with_suffix(""))


def dataset_publication(
    folder: Path,
    source: ArchiveSpec,
    destination: Destination | None = None,
    *,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a prepared folder of `source`; `public` None lets the licence decide.

    With a `destination`, the card says how to load it from there, and shows the classes.

    ValueError for a folder that `hf-wbc prepare` did not finish, for files in it that it did not
    write, for rows that may tell of a person, and for `public` where the source is not
    redistributable.
    """
    provenance = read_provenance(folder)
    if provenance.get("domain") != source.name:
        raise ValueError(
            f"{folder} holds {provenance.get('domain')}, not {source.name}; give the source that "
            "it was prepared from"
        )
    if public and not source.redistributable:
        raise ValueError(
            f"nothing says that the images of {source.name} may be passed on (licence "
            f"{source.license}): they are never published; leave out --public to publish privately"
        )
    files = _files(folder)
    check_rows([file for path, file in files.items() if path.endswith(".parquet")], source)
    num_rows = sum(provenance["num_rows"].values())
    shown = _shown(files, source, destination) if destination else {}
    return Publication(
        kind="dataset",
        files={**files, **shown},
        public=source.redistributable if public is None else public,
        message=f"{source.title}: {num_rows:,} images",
        tag=tag,
        subject=source.name,
    )


def _shown(
    files: dict[str, Path], source: ArchiveSpec, destination: Destination
) -> dict[str, bytes]:
    """The card for `destination`, and its picture."""
    shards = [path for path in files if path.startswith(f"{DEFAULT_CONFIG}/")]
    splits = [Path(path).name.partition("-")[0] for path in shards]
    card = published_card(
        files[CARD].read_text(encoding="utf-8"), source, card_location(destination)
    )
    picture = class_picture([files[path] for path in shards], splits)
    return {CARD: card.encode(), PICTURE: picture}


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a prepared folder says of itself; ValueError when it is none."""
    return read_json(folder / PROVENANCE, "give a folder that `hf-wbc prepare` wrote")


def _files(folder: Path) -> dict[str, Path]:
    """Card, provenance and all shards; ValueError for a missing one, and for anything else."""
    files = {name: folder / name for name in (CARD, PROVENANCE)}
    for config in CONFIGS:
        for split in SPLITS:
            if any((folder / config).glob(f"{split}-*")):
                shards = parquet_shards(str(folder), folder / config, split)
                check_schema(str(folder), shards)
                files |= {f"{config}/{shard.name}": shard for shard in shards}
    others = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and path not in files.values()
    ]
    if others:
        raise ValueError(
            f"{folder} holds {shorten_list(others)}, which `hf-wbc prepare` did not write; move it away: "
            "all of the folder would be published"
        )
    return files
