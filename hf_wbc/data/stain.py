"""Stain jitter in optical density: as if the smear had stood longer or shorter in each dye.

By Beer and Lambert's law dyes add up in optical density, -ln(intensity / white). Densities are
unmixed into dyes (Ruifrok & Johnston 2001, "Quantification of histochemical staining by color
deconvolution"), the amount of each is scaled and shifted at random for each sample (Tellez et al.
2019, arXiv:1902.06543, sec. 2.4: "HED-light" is a strength of .05, "HED-strong" of .2), and all is
mixed again. Theirs are tissue's haematoxylin, eosin and DAB; ours the dyes of a blood smear, with
the directions that ImageJ's colour deconvolution measured for "Giemsa". In ln(intensity) the whole
way is one affine map a sample.
"""

import math

import torch
from torch import Tensor

from hf_wbc.data.draws import STAIN_SCALE, STAIN_SHIFT, signed

AZURE = (0.834750233, 0.513556283, 0.196330403)
"""Direction of methylene blue's density in red, green and blue."""
EOSIN = (0.092789, 0.954111, 0.283111)
_WHITE, _DARKEST = 255.0, 1.0


def dyes() -> Tensor:
    """Densities of a unit of azure, eosin and what neither explains, as rows (3, 3), float64."""
    azure, eosin = torch.tensor([AZURE, EOSIN], dtype=torch.float64)
    rows = torch.stack([azure, eosin, torch.linalg.cross(azure, eosin)])
    return torch.nn.functional.normalize(rows)


def draw_stains(changes: Tensor, strength: float) -> Tensor:
    """Maps (B, 3, 4) of ln(intensity), intensities in 0..255; three columns to mix, one to add.

    Each dye's amount c becomes (1 + a) c + b, a and b uniform in +-strength; b in units of density.
    """
    changes = changes.cpu()
    scale = 1 + signed(changes, STAIN_SCALE, strength)
    shift = signed(changes, STAIN_SHIFT, strength)
    mix = dyes().T
    matrix = mix @ torch.diag_embed(scale) @ mix.inverse()
    white = torch.full((3,), math.log(_WHITE), dtype=torch.float64)
    add = white - matrix @ white - shift @ mix.T
    return torch.cat([matrix, add[:, :, None]], 2).float()


def restain(images: Tensor, stains: Tensor) -> Tensor:
    """Images (B, 3, N) of 0..255 with other amounts of each dye; `images` are overwritten."""
    matrix, add = torch.split(stains, [3, 1], dim=2)
    densities = images.clamp_(min=_DARKEST).log_()
    return torch.baddbmm(add, matrix, densities).exp_()
