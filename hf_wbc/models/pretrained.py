"""Find a checkpoint's files: in a folder, or in the local cache of a Hub commit.

Only configuration and safetensors files are downloaded; pickled weights are never read.
"""

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_wbc.data.file_kinds import LFS_MARK, LFS_POINTER
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.models.backbones import BackboneSpec, backbone_names, find_hub_model
from hf_wbc.models.config_checks import check_config
from hf_wbc.models.processor import PROCESSOR_FILES, Preprocessing, read_preprocessing
from hf_wbc.records import read_json
from hf_wbc.text import did_you_mean

ENSEMBLE = "hf_wbc_ensemble"
"""Model type of `hf_wbc.models.ensemble`, which is imported when it is needed."""
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_TIMM_NAME = re.compile(r"\w+(\.\w+)*")
_TIMM_PASSED = frozenset({"num_classes", "in_chans", "pretrained"})
_TIMM_FORBIDDEN = frozenset(
    {"checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "features_only"}
)
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one model at one revision."""

    folder: Path
    revision: str
    """The Hub commit, or "sha256:" and the digest of a folder's files."""
    backbone: BackboneSpec | None = None
    """The known backbone that these weights belong to, if any."""

    @property
    def has_processor(self) -> bool:
        """Whether it defines image preprocessing; timm checkpoints do so in config.json."""
        if any((self.folder / name).is_file() for name in PROCESSOR_FILES):
            return True
        return "pretrained_cfg" in read_json(self.folder / _CONFIG)

    def config(self) -> Any:
        """Return its transformers configuration.

        Raises:
            ValueError: If the configuration cannot be read.
        """
        from transformers import AutoConfig

        file = self.folder / _CONFIG
        check_config(file)
        values = read_json(file, "fetch the checkpoint again")
        if values.get("model_type") == ENSEMBLE:
            importlib.import_module("hf_wbc.models.ensemble")  # registers the architecture
        for part in (values, *_members(values, file)):
            if "pretrained_cfg" in part or part.get("model_type") == "timm_wrapper":
                _check_timm(part, file)
        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except MemoryError:
            raise
        except Exception as error:  # transformers raises any type for fields that it cannot use
            detail = str(error).partition("\n")[0]  # the rest is advice about versions
            raise ValueError(f"{file} cannot be used: {detail or type(error).__name__}") from error
        if config.model_type == "timm_wrapper":
            passed = config.model_args or {}
            kept = {key: value for key, value in passed.items() if key not in _TIMM_PASSED}
            config.model_args = kept or None
        if self.backbone and self.backbone.model_args:
            config.model_args = {**(config.model_args or {}), **self.backbone.model_args}
        return config

    def preprocessing(self) -> Preprocessing:
        """Return its image preprocessing.

        Raises:
            ValueError: If the preprocessing is not defined or not supported.
        """
        preprocessing = read_preprocessing(self.folder)
        if self.backbone and self.backbone.model_args:
            return replace(preprocessing, size=self.backbone.config["image_size"])
        return preprocessing


def _members(values: Mapping[str, Any], file: Path) -> Sequence[dict[str, Any]]:
    """Return the configurations of an ensemble's members; none for other models.

    Raises:
        ValueError: If they are not the configurations of single models.
    """
    if values.get("model_type") != ENSEMBLE:
        return ()
    members = values.get("members")
    if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
        raise ValueError(f"{file}: members is no list of configurations; take the original folder")
    if any(each.get("model_type") == ENSEMBLE for each in members):
        raise ValueError(f"{file}: a member is an ensemble itself; combine single models")
    return members


def _check_timm(values: Mapping[str, Any], file: Path) -> None:
    """Check a configuration that timm's `save_for_hf` wrote.

    It repeats the number of classes and channels among the arguments of `timm.create_model`, which
    transformers passes itself. Arguments that make timm read other files are refused: it would
    unpickle them.

    Raises:
        ValueError: If the architecture is not a name, or an argument is not allowed.
    """
    architecture, arguments = values.get("architecture"), values.get("model_args")
    if not (isinstance(architecture, str) and _TIMM_NAME.fullmatch(architecture)):
        raise ValueError(f"{file}: architecture is {architecture!r}, which names no timm model")
    arguments = {} if arguments is None else arguments
    objects = {"model_args": arguments, "pretrained_cfg": values.get("pretrained_cfg", {})}
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise ValueError(f"{file}: {name} is {value!r}; it must be a JSON object")
    if forbidden := sorted(_TIMM_FORBIDDEN & set(arguments)):
        raise ValueError(
            f"{file}: model_args has {', '.join(forbidden)}, which makes timm read other files; "
            "remove it, or choose another model"
        )
    if arguments.get("in_chans", 3) != 3:
        raise ValueError(
            f"{file}: the model takes images of {arguments['in_chans']} channels, and images have "
            "three; choose another model"
        )


def fetch_checkpoint(name: str, *, weights: bool = True) -> CheckpointFiles:
    """Return the files of a folder, or of `org/name[@revision]` on the Hub.

    Args:
        name: The folder or Hub model.
        weights: Whether to fetch the weights too.

    Raises:
        ValueError: If the model does not exist, the Hub cannot be reached and the local cache does
            not contain it, or its weights are not in safetensors.
    """
    if name and Path(name).is_dir():
        folder = Path(name)
        _require_files(folder, name, weights)
        return CheckpointFiles(folder, f"sha256:{_digest(folder, weights)}")
    hub = _HUB_ID.fullmatch(name)
    if not hub or Path(name).exists():
        hint = did_you_mean(name, backbone_names())
        raise ValueError(
            f"unknown model {name!r}: not a built-in name, a folder, or org/name; {hint}"
        )
    folder = _download(name, hub["id"], hub["revision"], weights)
    _require_files(folder, name, weights)
    return CheckpointFiles(folder, folder.name, find_hub_model(hub["id"]))


def _download(name: str, hub_id: str, revision: str | None, weights: bool) -> Path:
    patterns = [_CONFIG, *PROCESSOR_FILES, *(_WEIGHTS if weights else ())]
    try:
        return fetch_snapshot(hub_id, "model", revision, patterns)
    except ValueError as error:
        raise ValueError(
            f"model {name!r} is not a folder, and cannot be fetched from the Hub: {error}"
        ) from error


def _require_files(folder: Path, name: str, weights: bool) -> None:
    if not (folder / _CONFIG).is_file():
        raise ValueError(f"{name} has no config.json; give the folder of a transformers classifier")
    _refuse_lfs_pointers(folder)
    if not weights or any(folder.glob(_WEIGHTS[0])) or any(folder.glob(_WEIGHTS[1])):
        return
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    found = (
        f"only {', '.join(pickled)}, which can run code when loaded" if pickled else "no weights"
    )
    raise ValueError(
        f"{name} contains {found}; give a model whose weights are in model.safetensors (if you "
        "trust the file, load it with transformers and save it with save_pretrained)"
    )


def _refuse_lfs_pointers(folder: Path) -> None:
    """ValueError if a file of the checkpoint was cloned without Git LFS."""
    for pattern in (_CONFIG, *PROCESSOR_FILES, *_WEIGHTS):
        for path in folder.glob(pattern):
            with path.open("rb") as file:
                if file.read(len(LFS_MARK)) == LFS_MARK:
                    raise ValueError(f"{path} is {LFS_POINTER.what}; {LFS_POINTER.remedy}")


def _digest(folder: Path, weights: bool) -> str:
    """Return a SHA-256 of names and bytes of the files that determine the model's output."""
    patterns = (_CONFIG, *PROCESSOR_FILES, *(_WEIGHTS if weights else ()))
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        with file.open("rb") as opened:
            part = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.name} {part}\n".encode())
    return digest.hexdigest()
