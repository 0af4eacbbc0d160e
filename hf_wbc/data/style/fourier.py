"""FDA: the lowest frequencies of a source image get the amplitudes of a random target image.

Yang & Soatto 2020, "FDA: Fourier domain adaptation for semantic segmentation", arXiv:2004.05498,
eq. 2. Phases, which hold the shapes, stay the source's. What is swapped is a square around the zero
frequency: light, colour and the roughest of the layout. Of a single cell that is its size and the
light around it: the whole way leaves coloured halos, half of it hardly any.
"""

import torch
from torch import Tensor

BETA = 0.01
"""Half the side of the square, as a fraction of the image's."""


def swap_amplitudes(images: Tensor, targets: Tensor, beta: float = BETA) -> Tensor:
    """Images (B, 3, H, W) with the low amplitudes of `targets`, of the same shape, in float32.

    The square holds the frequencies of up to floor(beta min(H, W)) cycles an image either way, the
    mean always included; a beta of 0 changes nothing.
    """
    assert 0 <= beta < 0.5 and images.shape == targets.shape
    if not beta:
        return images
    height, width = images.shape[2:]
    reach = int(beta * min(height, width))
    spectrum, other = torch.fft.rfft2(images), torch.fft.rfft2(targets)
    for rows in (slice(0, reach + 1), slice(height - reach, height)):
        low = (..., rows, slice(0, reach + 1))
        spectrum[low] = torch.polar(other[low].abs(), spectrum[low].angle())
    mixed: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return mixed
