"""Find a checkpoint's files: in a folder, or in the local cache of a Hub commit.

Only configuration and safetensors files are downloaded; pickled weights are never read.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_wbc.data.file_kinds import LFS_MARK, LFS_POINTER
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.models.backbones import BackboneSpec, backbone_names, find_hub_model
from hf_wbc.models.processor import PROCESSOR_FILES, Preprocessing, read_preprocessing
from hf_wbc.text import did_you_mean

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one model at one revision."""

    folder: Path
    revision: str
    """The Hub commit, or "sha256:" and the digest of a folder's files."""
    ready: BackboneSpec | None = None
    """The known backbone that these weights belong to, if any."""

    @property
    def has_processor(self) -> bool:
        """Whether it defines image preprocessing; timm checkpoints do so in config.json."""
        if any((self.folder / name).is_file() for name in PROCESSOR_FILES):
            return True
        return "pretrained_cfg" in json.loads((self.folder / _CONFIG).read_text())

    def config(self) -> Any:
        """Return its transformers configuration.

        Raises:
            ValueError: If the configuration cannot be read.
        """
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except (ImportError, KeyError, OSError, ValueError) as error:
            said = str(error).partition("\n")[0]  # the rest is advice about versions
            raise ValueError(f"{self.folder / _CONFIG} cannot be used: {said}") from error
        if self.ready and self.ready.model_args:
            config.model_args = {**(config.model_args or {}), **self.ready.model_args}
        return config

    def preprocessing(self) -> Preprocessing:
        """Return its image preprocessing.

        Raises:
            ValueError: If the preprocessing is not defined or not supported.
        """
        preprocessing = read_preprocessing(self.folder)
        if self.ready and self.ready.model_args:
            return replace(preprocessing, size=self.ready.config["image_size"])
        return preprocessing


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
        raise ValueError(f"unknown model {name!r}: no ready name, no folder, no org/name; {hint}")
    folder = _download(name, hub["id"], hub["revision"], weights)
    _require_files(folder, name, weights)
    return CheckpointFiles(folder, folder.name, find_hub_model(hub["id"]))


def _download(name: str, hub_id: str, revision: str | None, weights: bool) -> Path:
    patterns = [_CONFIG, *PROCESSOR_FILES, *(_WEIGHTS if weights else ())]
    try:
        return fetch_snapshot(hub_id, "model", revision, patterns)
    except ValueError as error:
        raise ValueError(
            f"model {name!r} is no folder here and did not come from the Hub: {error}"
        ) from error


def _require_files(folder: Path, name: str, weights: bool) -> None:
    if not (folder / _CONFIG).is_file():
        raise ValueError(f"{name} has no config.json; give the folder of a transformers classifier")
    _refuse_lfs_pointers(folder)
    if not weights or any(folder.glob(_WEIGHTS[0])) or any(folder.glob(_WEIGHTS[1])):
        return
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    found = f"only {', '.join(pickled)}, which may run code when read" if pickled else "no weights"
    raise ValueError(
        f"{name} holds {found}; give a model whose weights are in model.safetensors (whoever "
        "trusts the file can load it with transformers and save it again with save_pretrained)"
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
