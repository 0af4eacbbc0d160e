"""Publish a prepared dataset: check its rows, complete its card, and collect its files."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.data import image_headers
from hf_wbc.data.dataset import check_schema, parquet_shards
from hf_wbc.data.schema import CONFIGS, DEFAULT_CONFIG, PROVENANCE, SPLITS
from hf_wbc.hub.benchmark import CITATION, EVAL_FILE, RESULTS_FOLDER, eval_yaml
from hf_wbc.hub.card import CardLocation, card_location
from hf_wbc.hub.croissant import CROISSANT, croissant_json
from hf_wbc.hub.publication import CARD, Destination, Publication, PublishFolder
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import read_json
from hf_wbc.taxonomy import NAMES, NUM_CLASSES
from hf_wbc.text import shorten_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PICTURE",
    "check_rows",
    "class_picture",
    "dataset_publication",
    "has_only_pixels",
    "published_card",
    "read_provenance",
]

PICTURE = "classes.png"
ALT = "Images by class and split"
_PATH = re.compile(r'^(path|place) = ".*$', re.MULTILINE)
_LOADING = re.compile(r'load_dataset\((path|place), "cropped", split="train"\)')
"""Cards written by earlier releases call the variable `place`."""
_CLASSES = "## Classes\n"
_BENCHMARK = "## Benchmark\n"
_PROVENANCE = "## Provenance\n"
_FRONT = re.compile(r"---\n.*?\n(?=---\n)", re.DOTALL)
_GATE = """\
extra_gated_heading: Request access to {title}
extra_gated_prompt: >-
  No license permits redistributing these images. By requesting access you agree to keep them to
  yourself, not to publish any of them, and not to try to identify the patients.
extra_gated_button_content: I agree and request access
"""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"sBIT")
)
"""Chunks that describe pixels only; text, times and EXIF are stored in others."""
_NUM_LISTED = 20


def dataset_publication(
    folder: Path,
    source: ArchiveSpec,
    destination: Destination | None = None,
    *,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a prepared folder.

    Args:
        folder: A folder that `hf-wbc prepare` wrote.
        source: The source that the folder was prepared from.
        destination: Where others will load it from. If given, the card says how, and shows a
            picture of the classes.
        public: Whether anyone may see it; None lets the source's license decide.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: The folder is incomplete or contains other files, its rows may identify a
            person, or `public` is True and the source may not be redistributed.
    """
    provenance = read_provenance(folder)
    if provenance.get("domain") != source.name:
        raise ValueError(
            f"{folder} contains {provenance.get('domain')}, not {source.name}; give the source "
            "that it was prepared from"
        )
    if public and not source.redistributable:
        raise ValueError(
            f"the license of {source.name} ({source.license}) does not permit redistributing its "
            "images; omit --public to publish privately"
        )
    files = _files(folder)
    check_rows([file for path, file in files.items() if path.endswith(".parquet")], source)
    num_rows = sum(provenance["num_rows"].values())
    card_files = _card_files(files, source, destination) if destination else {}
    return Publication(
        kind="dataset",
        files={**files, **card_files},
        public=source.redistributable if public is None else public,
        message=f"{source.title}: {num_rows:,} images",
        tag=tag,
        subject=source.name,
    )


def read_provenance(folder: Path) -> dict[str, Any]:
    """The provenance of a prepared folder; ValueError if it is not one."""
    return read_json(folder / PROVENANCE, "give a folder that `hf-wbc prepare` wrote")


def _files(folder: Path) -> dict[str, Path]:
    """Card, provenance and all shards; ValueError for a missing file or any other."""
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
            f"{folder} contains {shorten_list(others)}, which `hf-wbc prepare` did not write; move "
            "it away: everything in the folder would be published"
        )
    return files


def _card_files(
    files: dict[str, Path], source: ArchiveSpec, destination: Destination
) -> dict[str, bytes]:
    """The card for `destination` with its picture, and metadata for programs."""
    shards = [path for path in files if path.startswith(f"{DEFAULT_CONFIG}/")]
    splits = [Path(path).name.partition("-")[0] for path in shards]
    test = [files[path] for path, split in zip(shards, splits, strict=True) if split == "test"]
    labels = _known_labels(test)
    text, place = files[CARD].read_text(encoding="utf-8"), card_location(destination)
    card = published_card(text, source, place, is_benchmark=labels.size > 0)
    picture = class_picture([files[path] for path in shards], splits)
    found = {CARD: card.encode(), PICTURE: picture}
    if labels.size:
        num_classes = len(np.unique(labels))
        found[EVAL_FILE] = eval_yaml(source.name, source.title, labels.size, num_classes)
    if isinstance(destination, PublishFolder):  # the Hub makes its own
        found[CROISSANT] = croissant_json(source, files)
    return found


def _known_labels(shards: Sequence[Path]) -> "NDArray[np.int64]":
    """The class ids of the labeled images in Parquet files."""
    import pyarrow.parquet as pq

    found = [pq.read_table(shard, columns=["label"])["label"].to_numpy() for shard in shards]
    labels = np.concatenate([np.empty(0, np.int64), *found])
    return labels[labels >= 0]


def published_card(
    text: str, source: ArchiveSpec, place: CardLocation, is_benchmark: bool = False
) -> str:
    """The card that `hf-wbc prepare` wrote, with instructions to load it from `place`.

    A benchmark's card also says how to score and submit a model, and how to cite the benchmark.

    If the source may not be redistributed, the front matter also gets the text of an access
    request, for owners who let others ask. Edits that someone made to the card by hand stay.
    """
    text = _PATH.sub(lambda line: f'{line[1]} = "{place.name}"', text, count=1)
    text = _LOADING.sub(lambda call: f"{call[0][:-1]}{place.pin})", text, count=1)
    if _CLASSES in text and PICTURE not in text:
        text = text.replace(_CLASSES, f"{_CLASSES}\n![{ALT}]({PICTURE})\n", 1)
    if is_benchmark and _BENCHMARK not in text:
        section = _benchmark_section(place)
        before, heading, after = text.partition(_PROVENANCE)
        text = f"{before}{section}\n{heading}{after}" if heading else f"{text}\n{section}"
    if not source.redistributable and "extra_gated_prompt" not in text:
        gate = _GATE.format(title=source.name)
        text = _FRONT.sub(lambda front: front[0] + gate, text, count=1)
    return text


def _benchmark_section(place: CardLocation) -> str:
    """The section on how to score, submit and cite; only a dataset on the Hub takes submissions."""
    commands = [f"hf-wbc evaluate ORG/MODEL {place.ref}"]
    text = f"`{EVAL_FILE}` makes this dataset a benchmark: macro-F1 on its test split."
    if place.pin:
        commands.append(f"hf-wbc submit ORG/MODEL --to {place.name}")
        text += (
            " `submit` scores a model of your own and opens a pull request here with its result "
            f"file, `{RESULTS_FOLDER}/ORG--MODEL.yaml`; once merged, it is on the leaderboard."
        )
    lines = "\n".join(commands)
    return (
        f"{_BENCHMARK}\n{text}\n\n```bash\n{lines}\n```\n\nPlease cite the benchmark, and "
        f"the images by their own paper:\n\n```bibtex\n{CITATION}```\n"
    )


def class_picture(shards: Sequence[Path], splits: Sequence[str]) -> bytes:
    """Plot the number of labeled images by class and split.

    Args:
        shards: The Parquet files of one configuration.
        splits: The split of each shard.

    Returns:
        A PNG.
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


def check_rows(files: Sequence[Path], source: ArchiveSpec) -> None:
    """Check that no row can identify a person.

    Raises:
        ValueError: Lists image ids that do not match the source's pattern, paths, images with
            metadata, and rows of another domain.
    """
    from hf_wbc.data.parallel import num_cores

    with ThreadPoolExecutor(num_cores()) as pool:
        found = {
            problem
            for problems in pool.map(lambda file: _problems(file, source), files)
            for problem in problems
        }
    names = sorted({name for kind, name in found if kind == "name"})
    if names:
        raise ValueError(
            f"{len(names)} image ids of {source.name} do not match its pattern {source.image_id} "
            f"and may be names of people: {shorten_list(names, _NUM_LISTED)}; rename the images, "
            "and prepare the dataset again"
        )
    images = sorted({name for kind, name in found if kind == "image"})
    if images:
        raise ValueError(
            f"{len(images)} images of {source.name} contain EXIF, comments or other metadata: "
            f"{shorten_list(images, _NUM_LISTED)}; prepare the dataset again with `hf-wbc "
            "prepare`, which removes them"
        )
    others = sorted({name for kind, name in found if kind == "domain"})
    if others:
        raise ValueError(
            f"the rows are of the domain {shorten_list(others)}, but the folder is of "
            f"{source.name}; prepare the dataset again"
        )


def has_only_pixels(data: bytes) -> bool:
    """Whether a JPEG or PNG file contains pixels and no metadata."""
    if image_headers.is_jpeg(data):
        try:
            return image_headers.strip_metadata(data) == data
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


def _problems(path: Path, source: ArchiveSpec) -> list[tuple[str, str]]:
    """Kind and name of each problem in one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pattern = re.compile(source.image_id)
    found = []
    try:
        for batch in pq.ParquetFile(path).iter_batches(columns=["image", "image_id", "domain"]):
            images = batch.column("image")
            paths = images.field("path").to_pylist()
            ids = [str(image_id) for image_id in batch.column("image_id").to_pylist()]
            found += [("domain", str(name)) for name in set(batch.column("domain").to_pylist())]
            for image_id, name, data in zip(ids, paths, images.field("bytes"), strict=True):
                if not pattern.fullmatch(image_id):
                    found.append(("name", image_id))
                elif name is not None and _stem(name) != _stem(PurePosixPath(image_id).name):
                    found.append(("name", str(name)))
                if data.as_py() is None or not has_only_pixels(data.as_py()):
                    found.append(("image", image_id))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}); prepare the dataset again") from error
    return [problem for problem in found if problem != ("domain", source.name)]


def _stem(name: str) -> str:
    """The name without its suffix, which a crop may change; folders in it stay."""
    return str(PurePosixPath(name).with_suffix(""))
