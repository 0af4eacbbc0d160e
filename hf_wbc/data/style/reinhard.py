"""Reinhard's colour transfer: the target's mean and deviation in a space of human vision.

Reinhard, Ashikhmin, Gooch & Shirley 2001, "Color transfer between images". The space is l alpha
beta: logarithms of what the eye's long, middle and short cones take in, turned onto axes along
which natural images vary independently. Theirs are the statistics of two images, ours of two
domains, so that a cell keeps what sets it apart from others of its laboratory. Between the
logarithms the whole way is one affine map.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_wbc.data.stain import restain
from hf_wbc.data.style.samples import Colours, Map

RGB_TO_LMS = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
"""Eq. 4; its rows sum to one, nearly, so that 0..255 stays in it."""
LMS_TO_LAB = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
"""Eq. 6: an orthogonal turn of the logarithms."""
_DARKEST, _WHITE, _SPREAD = 1.0, 255.0, 1 / 255


@dataclass(frozen=True)
class LabStatistics:
    """Of a domain's colours in l alpha beta, with natural logarithms."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """At least a grey level's, so that a domain of one colour has a map too."""


def lab_statistics(colours: Colours) -> LabStatistics:
    """Of colours (N, 3)."""
    lms = (colours.astype(np.float64) @ RGB_TO_LMS.T).clip(min=_DARKEST)
    lab = np.log(lms) @ LMS_TO_LAB.T
    return LabStatistics(tuple(lab.mean(0).tolist()), tuple(lab.std(0).clip(min=_SPREAD).tolist()))


def lead_lab(source: LabStatistics, target: LabStatistics) -> Map:
    """Map (3, 4) of ln(LMS) that gives source colours the target's statistics."""
    scale = np.array(target.std) / np.array(source.std)
    matrix = LMS_TO_LAB.T @ np.diag(scale) @ LMS_TO_LAB
    add = LMS_TO_LAB.T @ (np.array(target.mean) - scale * np.array(source.mean))
    return np.concatenate([matrix, add[:, None]], axis=1)


def reinhard(images: Tensor, maps: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0..255 through `maps` (B, 3, 4) of ln(LMS).

    No cone takes in more than it does of white.
    """
    there = torch.from_numpy(RGB_TO_LMS).float().to(images.device)
    back = torch.from_numpy(np.linalg.inv(RGB_TO_LMS)).float().to(images.device)
    lms = restain(there @ images.flatten(2), maps)
    return (back @ lms.clamp_(max=_WHITE)).view(images.shape)
