"""Where a run's data and weights came from, without paths of this machine.

Data and models from the Hub are named with their commit. A local folder is named by its domain, or
a model by the last part of its path; its fingerprint identifies the content.
"""

import copy
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.models.backbones import find_backbone

ROLES = ("sources", "target", "held_out")


def dataset_location(domain: Mapping[str, Any]) -> str:
    """`org/name@commit` of one of a record's domains, or its name if it was a folder."""
    if domain["revision"] is None:
        return str(domain["name"])
    return f"{str(domain['ref']).partition('@')[0]}@{domain['revision']}"


def hub_dataset(domain: Mapping[str, Any]) -> str | None:
    """The repository of a domain from the Hub, or None."""
    return None if domain["revision"] is None else dataset_location(domain).partition("@")[0]


def is_from_scratch(model: Mapping[str, Any]) -> bool:
    """Whether the weights were initialized at random, in the named model's architecture."""
    return str(model["revision"]).startswith("fresh:")


def hub_model(model: Mapping[str, Any]) -> str | None:
    """The repository of a run's base model on the Hub, or None."""
    name, revision = str(model["name"]), str(model["revision"])
    if backbone := find_backbone(name):
        return backbone.hub_id
    if revision.startswith("sha256:") or _is_path(name):
        return None
    if is_from_scratch(model) and Path(name).is_dir():  # `build/tiny` is a folder, not a repository
        return None
    return name.partition("@")[0]


def model_location(model: Mapping[str, Any]) -> str:
    """`org/name@commit`, the last part of a folder's path, or a name without pretrained weights."""
    name, repo = str(model["name"]), hub_model(model)
    if repo is None:
        return PurePath(name).name
    return name if is_from_scratch(model) else f"{repo}@{model['revision']}"


def _is_path(name: str) -> bool:
    return name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~"))


def strip_local_paths(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record without local paths and names of readers.

    Its `config` still trains the same model again, with the same file of target labels if any.
    """
    public = copy.deepcopy(dict(record))
    for role in ROLES:
        for domain in public[role]:
            domain["ref"] = dataset_location(domain)
    public["model"]["name"] = model_location(record["model"])
    places = {role: tuple(domain["ref"] for domain in public[role]) for role in ROLES}
    config = TrainConfig.from_record(record).replace(**places, model=public["model"]["name"])
    if labels := config.data.target_labels:
        config = config.replace(target_labels=PurePath(labels).name)
        given = public["target_labels"]
        given["readers"] = [f"reader {number + 1}" for number in range(len(given["readers"]))]
    public["config"] = config.to_dict()
    return public
