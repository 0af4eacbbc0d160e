"""A finished run as a publication: plain transformers weights, their card, and the run's record.

The configuration of a published run, or of a run folder: what trains the same anew."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.card import card_location
from hf_wbc.hub.client import shorten
from hf_wbc.hub.model_card import model_card
from hf_wbc.hub.model_card_text import scored
from hf_wbc.hub.provenance import ROLES, strip_local_paths
from hf_wbc.hub.publication import CARD, Destination, Publication
from hf_wbc.inference.gallery import REFERENCE_FILE as REFERENCE
from hf_wbc.inference.gallery import reference_set_path
from hf_wbc.models.backbones import find_backbone
from hf_wbc.models.exposure import KEY, Exposure
from hf_wbc.models.load import require_labels
from hf_wbc.models.processor import PROCESSOR_FILES
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import RunFolder, read_json

RECORD = "record.json"
PICTURE = "confusion.png"
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_OTHERS = ("config.json", *PROCESSOR_FILES)
EXPECTED = (CARD, PICTURE, RECORD, "config.json", "model.safetensors", PROCESSOR_FILES[0])
"""What a run's model will consist of, before it is trained."""


def model_publication(
    path: Path,
    destination: Destination,
    sources: Mapping[str, ArchiveSpec],
    *,
    public: bool | None = None,
    licence: str | None = None,
    tag: str | None = None,
) -> Publication:
    """The model of a run folder, or of its `model/`, for `destination`.

    `sources` are those that are known, by their domain. Without a word on who may see it, a model
    is public when all it has seen may be passed on, and private otherwise: its weights hold no
    image, but nobody has said what may be made from those.

    ValueError for an unfinished or damaged run, labels that are not the eleven, and files that no
    run writes, pickled weights among them.
    """
    run = RunFolder(path.parent if path.name == "model" and not _is_run(path) else path)
    if not run.finished:
        raise ValueError(
            f"{path} is no finished run: it has no {RECORD}; give the folder of one that "
            "`hf-wbc train` has finished, such as runs/RUN"
        )
    record = run.read_record()
    if record.get("kind") != "training":
        raise ValueError(f"{path} is of kind {record.get('kind')!r}; give the folder of a training")
    weights = _files(run)
    seen = _seen(run)
    names = [domain["name"] for role in ROLES for domain in record[role]]
    public = may_show_thumbnails(names, sources) if public is None else public
    files: dict[str, Path | bytes] = {
        CARD: model_card(
            record, seen, card_location(destination), sources, licence=licence, picture=PICTURE
        ).encode(),
        PICTURE: _confusion(record),
        RECORD: (
            json.dumps(strip_local_paths(record), indent=2, ensure_ascii=False) + "\n"
        ).encode(),
        **weights,
        **_reference(run, sources, public),
    }
    return Publication(
        kind="model",
        files=files,
        public=public,
        message=f"Run {record['run']}: {record['config']['method']} on {', '.join(names)}",
        tag=tag,
    )


def may_show_thumbnails(domains: Iterable[str], sources: Mapping[str, ArchiveSpec]) -> bool:
    """Whether all that weights have seen may be passed on, and is known to be."""
    return all(name in sources and sources[name].redistributable for name in domains)


def _reference(
    run: RunFolder, sources: Mapping[str, ArchiveSpec], public: bool
) -> Mapping[str, Path | bytes]:
    """What `hf-wbc reference` made, if it did; never to everybody where its cells must stay."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = reference_set_path(run.model)
    if not path.is_file():
        return {}
    try:
        shown = set(pq.read_table(path, columns=["source"])["source"].to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({shorten(error)}); delete it, or make it with `hf-wbc reference`"
        ) from error
    return {} if public and not may_show_thumbnails(shown, sources) else {REFERENCE: path}


def _is_run(path: Path) -> bool:
    return RunFolder(path).finished


def _files(run: RunFolder) -> dict[str, Path | bytes]:
    """What `AutoModelForImageClassification` and its processor read; ValueError for anything else.

    The labels are the eleven in their order.
    """
    if not run.model.is_dir():
        raise ValueError(f"{run.path} has no model/; {run.remedy}")
    there = {path.name: path for path in sorted(run.model.iterdir())}
    known = {path.name for pattern in (*_WEIGHTS, *_OTHERS) for path in run.model.glob(pattern)}
    if foreign := [name for name in there if name not in known]:
        raise ValueError(
            f"{run.model} holds {', '.join(foreign)}, which no run writes, and nothing but "
            "safetensors and their configuration is published; take it away"
        )
    if not any(run.model.glob("*.safetensors")) or _OTHERS[0] not in known:
        raise ValueError(f"{run.model} has no weights or no config.json; {run.remedy}")
    config = read_json(run.model / _OTHERS[0], run.remedy)
    labels = config.get("id2label", {})
    require_labels(str(run.model), tuple(labels[each] for each in sorted(labels, key=int)))
    return dict(there)


def _seen(run: RunFolder) -> Exposure:
    """What the saved weights have seen; ValueError where they do not say."""
    note: Any = read_json(run.model / _OTHERS[0]).get(KEY)
    if note is None:
        raise ValueError(
            f"{run.model / _OTHERS[0]} does not say what its weights have seen: an older hf_wbc "
            f"wrote it; {run.remedy}"
        )
    return Exposure.from_dict(note)


def _confusion(record: Mapping[str, Any]) -> bytes:
    """PNG of the first test set of the card."""
    from hf_wbc.plots.confusion import draw_confusion
    from hf_wbc.plots.html import png

    domain, _, scores = next(each for each in scored(record) if each[1] == "test")
    return png(draw_confusion(scores, domain.replace("_", " ")))


_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_REMEDY = "give a model that `hf-wbc publish` wrote, as org/name[@revision], or a run folder"


def published_config(ref: str) -> TrainConfig:
    """The resolved configuration of the run in a folder, or of `org/name[@revision]` on the Hub.

    Its data and base are pinned to the commits they had, where they came from the Hub; a name alone
    stands for what its owner had in a folder. ValueError when there is no such run, or another
    version wrote it.
    """
    folder = _fetch(ref)
    if not (folder / RECORD).is_file():
        raise ValueError(f"{ref} has no {RECORD}; {_REMEDY}")
    record = RunFolder(folder).read_record()
    if record.get("kind") != "training":
        raise ValueError(f"{ref} is of kind {record.get('kind')!r}, and no training; {_REMEDY}")
    try:
        return TrainConfig.from_record(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{ref} was trained with another hf_wbc ({error}); its record names the version: "
            f"{record.get('packages', {}).get('hf_wbc', 'unknown')}"
        ) from error


def require_locations(config: TrainConfig, ref: str) -> None:
    """ValueError when the configuration of `ref` still names what its owner had in folders."""
    places = {role: getattr(config.data, role) for role in ROLES}
    if not find_backbone(config.model.name):
        places["model"] = (config.model.name,)
    needed = [
        f"--{role.replace('_', '-')} {' '.join(names)}"
        for role, names in places.items()
        if any("/" not in name and not Path(name).is_dir() for name in names)
    ]
    if needed:
        raise ValueError(
            f"{ref} was trained on what its owner had in folders; give yours in place of these: "
            f"{' '.join(needed)}"
        )


def _fetch(ref: str) -> Path:
    if Path(ref).is_dir():
        return Path(ref)
    name, _, revision = ref.partition("@")
    if not _HUB.fullmatch(name):
        raise ValueError(f"{ref}: no such folder; {_REMEDY}")
    try:
        return fetch_snapshot(name, "model", revision or None, [RECORD])
    except ValueError as error:
        raise ValueError(f"{ref}: no such folder, and the Hub's model: {error}") from error
