"""Give a pre-trained model another input size: its position embeddings are interpolated once.

Bicubic, by the family's own rule (Dosovitskiy et al. 2021, arXiv:2010.11929, sec. 3.2).
"""

import copy
from typing import Any

from torch import Tensor


def resize_model(model: Any, image_size: int) -> Any:
    """The same weights for images of that size; families that take any size come back as they are.

    ValueError when a weight's shape depends on the size in another way than as position embeddings.
    """
    from transformers import AutoModelForImageClassification

    if getattr(model.config, "image_size", image_size) == image_size:
        return model
    config = copy.deepcopy(model.config)
    config.image_size = image_size
    resized = AutoModelForImageClassification.from_config(config)
    state = model.state_dict()
    for name, weight in resized.state_dict().items():
        if weight.shape != state[name].shape:
            state[name] = _interpolate(model, name, weight, image_size)
    resized.load_state_dict(state)
    return resized


def _interpolate(model: Any, name: str, weight: Tensor, image_size: int) -> Tensor:
    owner_name, _, attribute = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    if attribute != "position_embeddings" or not hasattr(owner, "interpolate_pos_encoding"):
        raise ValueError(
            f"{type(model).__name__} cannot take images of {image_size} px: {name} has a fixed "
            f"shape; leave --image-size out for the checkpoint's own {model.config.image_size}"
        )
    positions: Tensor = owner.interpolate_pos_encoding(weight, image_size, image_size)
    return positions.detach().clone()
