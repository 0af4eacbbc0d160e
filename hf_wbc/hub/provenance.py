"""Where a run's data and weights came from, as others may read it: no path of this machine.

What is on the Hub is named with its commit. A folder is named for what it holds: the domain, or the
last part of a model's path; its fingerprint says the rest.
"""

import copy
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.models.backbones import find_backbone

ROLES = ("sources", "target", "held_out")


def dataset_location(domain: Mapping[str, Any]) -> str:
    """Of one of a record's domains: `org/name@commit`, or the domain's name."""
    if domain["revision"] is None:
        return str(domain["name"])
    return f"{str(domain['ref']).partition('@')[0]}@{domain['revision']}"


def hub_dataset(domain: Mapping[str, Any]) -> str | None:
    """The repository of a domain that came from the Hub."""
    return None if domain["revision"] is None else dataset_location(domain).partition("@")[0]


def is_fresh(model: Mapping[str, Any]) -> bool:
    """Whether the weights were drawn at random, and the named model gave its architecture alone."""
    return str(model["revision"]).startswith("fresh:")


def hub_model(model: Mapping[str, Any]) -> str | None:
    """The repository of a run's model before training, where it is on the Hub."""
    name, revision = str(model["name"]), str(model["revision"])
    if ready := find_backbone(name):
        return ready.hub_id
    if revision.startswith("sha256:") or _is_path(name):
        return None
    if is_fresh(model) and Path(name).is_dir():  # `build/tiny`, and no repository
        return None
    return name.partition("@")[0]


def model_location(model: Mapping[str, Any]) -> str:
    """`org/name@commit`, the last part of a folder's path, or a name whose weights are fresh."""
    name, repo = str(model["name"]), hub_model(model)
    if repo is None:
        return PurePath(name).name
    return name if is_fresh(model) else f"{repo}@{model['revision']}"


def _is_path(name: str) -> bool:
    return name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~"))


def strip_local_paths(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record as others may read it; `config` trains the same anew where data is at hand."""
    public = copy.deepcopy(dict(record))
    for role in ROLES:
        for domain in public[role]:
            domain["ref"] = dataset_location(domain)
    public["model"]["name"] = model_location(record["model"])
    places = {role: tuple(domain["ref"] for domain in public[role]) for role in ROLES}
    config = TrainConfig.from_record(record).replace(**places, model=public["model"]["name"])
    public["config"] = config.to_dict()
    return public
