"""Publish a finished run: transformers weights, their card, and the run's record.

`published_config` is the way back: it reads the configuration of a published run, to train it
again.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.benchmark import Benchmark, result_entry, results_path, results_yaml
from hf_wbc.hub.card import card_location
from hf_wbc.hub.client import shorten
from hf_wbc.hub.model_card import model_card
from hf_wbc.hub.model_card_text import scored
from hf_wbc.hub.provenance import ROLES, hub_dataset, strip_local_paths
from hf_wbc.hub.publication import CARD, Destination, Publication
from hf_wbc.inference.gallery import REFERENCE_FILE as REFERENCE
from hf_wbc.inference.gallery import reference_set_path
from hf_wbc.models.attribute_head import ATTRIBUTES_FILE
from hf_wbc.models.backbones import find_backbone
from hf_wbc.models.exposure import KEY, Exposure
from hf_wbc.models.load import require_labels
from hf_wbc.models.processor import PROCESSOR_FILES
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.record_schema import check_training_record
from hf_wbc.records import RunFolder, read_json

__all__ = [
    "EXPECTED",
    "RECORD",
    "may_show_thumbnails",
    "model_publication",
    "published_config",
    "require_locations",
]

RECORD = "record.json"
PICTURE = "confusion.png"
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_OTHERS = ("config.json", *PROCESSOR_FILES, ATTRIBUTES_FILE)
EXPECTED = (CARD, PICTURE, RECORD, "config.json", "model.safetensors", PROCESSOR_FILES[0])
"""The files of a run's model, known before it is trained."""
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_REMEDY = "give a model that `hf-wbc publish` wrote, as org/name[@revision], or a run folder"


def model_publication(
    path: Path,
    destination: Destination,
    sources: Mapping[str, ArchiveSpec],
    *,
    public: bool | None = None,
    license: str | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a run's model.

    Args:
        path: A finished run's folder, or its `model/`.
        destination: Where others will load it from.
        sources: The known sources by domain.
        public: Whether anyone may see it. None: if all images it was trained on may be
            redistributed. Otherwise it is private: weights contain no image, but no license says
            what may be made from the images.
        license: The license that the publisher gives the weights, an identifier of the Hub.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: The run is unfinished or damaged, its labels are not the eleven classes, or
            its folder contains files that no run writes, such as pickled weights.
    """
    run = RunFolder(path.parent if path.name == "model" and not _is_run(path) else path)
    record = _training_record(run, path)
    weights = _files(run)
    exposure = _exposure(run)
    names = [domain["name"] for role in ROLES for domain in record[role]]
    public = may_show_thumbnails(names, sources) if public is None else public
    files: dict[str, Path | bytes] = {
        CARD: model_card(
            record, exposure, card_location(destination), sources, license=license, picture=PICTURE
        ).encode(),
        PICTURE: _confusion(record),
        RECORD: (
            json.dumps(strip_local_paths(record), indent=2, ensure_ascii=False) + "\n"
        ).encode(),
        **weights,
        **_reference(run, sources, public),
        **_results(record),
    }
    return Publication(
        kind="model",
        files=files,
        public=public,
        message=f"Run {record['run']}: {TrainConfig.from_record(record).adapt.method} on "
        f"{', '.join(names)}",
        tag=tag,
    )


def _training_record(run: RunFolder, path: Path) -> dict[str, Any]:
    """The record of the run in `path`; ValueError unless it is a finished, undamaged training."""
    if not run.finished:
        raise ValueError(
            f"{path} is not a finished run: it has no {RECORD}; give the folder of a run that "
            "`hf-wbc train` has finished, such as runs/RUN"
        )
    record = run.read_record()
    if record.get("kind") != "training":
        raise ValueError(
            f"{path} is of kind {record.get('kind')!r}; give the folder of a training run"
        )
    try:
        check_training_record(record)
    except ValueError as error:
        raise ValueError(f"{run.record} is damaged: {error}; {run.remedy}") from error
    return record


def _results(record: Mapping[str, Any]) -> Mapping[str, bytes]:
    """A result file for each benchmark on the Hub whose test images the run was scored on.

    None for weights that were selected with target labels.
    """
    if record["selection"]["sees"] == "target labels":
        return {}
    found = {}
    domains = {domain["name"]: domain for role in ROLES for domain in record[role]}
    for name, split, scores in scored(record):
        repo_id = hub_dataset(domains[name])
        if split != "test" or repo_id is None:
            continue
        benchmark = Benchmark(repo_id, str(domains[name]["revision"]), name)
        entry = result_entry(benchmark, scores, str(record["selection"]["rule"]))
        found[results_path(repo_id)] = results_yaml([entry])
    return found


def may_show_thumbnails(domains: Iterable[str], sources: Mapping[str, ArchiveSpec]) -> bool:
    """Whether the images of all these domains are known to be redistributable."""
    return all(name in sources and sources[name].redistributable for name in domains)


def _reference(
    run: RunFolder, sources: Mapping[str, ArchiveSpec], public: bool
) -> Mapping[str, Path | bytes]:
    """The reference set, if there is one that may be published to this audience."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = reference_set_path(run.model)
    if not path.is_file():
        return {}
    try:
        shown = set(pq.read_table(path, columns=["source"])["source"].to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({shorten(error)}); delete it, or build it with `hf-wbc reference`"
        ) from error
    return {} if public and not may_show_thumbnails(shown, sources) else {REFERENCE: path}


def _is_run(path: Path) -> bool:
    return RunFolder(path).finished


def _files(run: RunFolder) -> dict[str, Path | bytes]:
    """The files that `AutoModelForImageClassification` and its processor read.

    ValueError for other files, and for labels other than the eleven in their order.
    """
    if not run.model.is_dir():
        raise ValueError(f"{run.path} has no model/; {run.remedy}")
    there = {path.name: path for path in sorted(run.model.iterdir())}
    known = {path.name for pattern in (*_WEIGHTS, *_OTHERS) for path in run.model.glob(pattern)}
    if foreign := [name for name in there if name not in known]:
        raise ValueError(
            f"{run.model} contains {', '.join(foreign)}, which no run writes; move it away: only "
            "safetensors and their configuration are published"
        )
    if not any(run.model.glob("model*.safetensors")) or _OTHERS[0] not in known:
        raise ValueError(f"{run.model} has no weights or no config.json; {run.remedy}")
    config = read_json(run.model / _OTHERS[0], run.remedy)
    labels = config.get("id2label", {})
    require_labels(str(run.model), tuple(labels[each] for each in sorted(labels, key=int)))
    return dict(there)


def _exposure(run: RunFolder) -> Exposure:
    """The domains that the saved weights were trained on; ValueError if they are not recorded."""
    note: Any = read_json(run.model / _OTHERS[0]).get(KEY)
    if note is None:
        raise ValueError(
            f"{run.model / _OTHERS[0]} does not record which domains its weights were trained on: "
            f"an older hf_wbc wrote it; {run.remedy}"
        )
    return Exposure.from_dict(note)


def _confusion(record: Mapping[str, Any]) -> bytes:
    """The confusion matrix of the card's first test set, as a PNG."""
    from hf_wbc.plots.confusion import draw_confusion
    from hf_wbc.plots.html import png

    domain, _, scores = next(each for each in scored(record) if each[1] == "test")
    return png(draw_confusion(scores, domain.replace("_", " ")))


def published_config(ref: str) -> TrainConfig:
    """The resolved configuration of a published run or a run folder.

    Data and base model from the Hub are pinned to their commits. What the run's owner had in local
    folders is given by name only; see `require_locations`.

    Args:
        ref: `org/name[@revision]` on the Hub, or a run folder.

    Raises:
        ValueError: There is no such run, or another version wrote it.
    """
    folder = _fetch(ref)
    if not (folder / RECORD).is_file():
        raise ValueError(f"{ref} has no {RECORD}; {_REMEDY}")
    record = RunFolder(folder).read_record()
    if record.get("kind") != "training":
        raise ValueError(f"{ref} is of kind {record.get('kind')!r}, not a training run; {_REMEDY}")
    try:
        return TrainConfig.from_record(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{ref} was trained with another hf_wbc ({error}); its record names the version: "
            f"{record.get('packages', {}).get('hf_wbc', 'unknown')}"
        ) from error


def require_locations(config: TrainConfig, ref: str) -> None:
    """ValueError if the configuration of `ref` still names data or models of local folders."""
    places = {role: getattr(config.data, role) for role in ROLES}
    if not find_backbone(config.model.name):
        places["model"] = (config.model.name,)
    needed = [
        f"--{role.replace('_', '-')} {' '.join(names)}"
        for role, names in places.items()
        if any("/" not in name and not Path(name).is_dir() for name in names)
    ]
    labels = config.data.target_labels
    if labels and not Path(labels).is_file():
        needed.append(f"--target-labels {labels}")
    if needed:
        raise ValueError(
            f"{ref} was trained on data or models in its owner's folders; give your own in place "
            f"of these: {' '.join(needed)}"
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
        raise ValueError(f"{ref}: no such folder, and for the model on the Hub: {error}") from error
