"""The configuration of a published run, or of a run folder: what trains the same anew."""

import re
from pathlib import Path

from hf_wbc.config import TrainConfig
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.model import RECORD
from hf_wbc.hub.places import ROLES
from hf_wbc.models.backbones import find_ready
from hf_wbc.records import RunFolder

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
        return TrainConfig.from_dict(record["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{ref} was trained with another hf_wbc ({error}); its record names the version: "
            f"{record.get('packages', {}).get('hf_wbc', 'unknown')}"
        ) from error


def require_places(config: TrainConfig, ref: str) -> None:
    """ValueError when the configuration of `ref` still names what its owner had in folders."""
    places = {role: getattr(config, role) for role in ROLES}
    if not find_ready(config.model):
        places["model"] = (config.model,)
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
