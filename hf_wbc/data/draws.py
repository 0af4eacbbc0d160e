"""The uniform numbers behind the random changes of a batch: one row a sample, one column a draw.

Every sample has all of them, whatever the strengths, so that a slice of a batch is what the same
samples get in any other, and one more kind of change leaves the numbers of the others alone.
"""

import torch
from torch import Tensor

MIRROR_X, MIRROR_Y, TURN, ROTATION, SHIFT_X, SHIFT_Y, SCALE = range(7)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(7, 11)
STAIN_SCALE, STAIN_SHIFT = slice(11, 14), slice(14, 17)
TARGET_AMOUNT, TARGET_DOMAIN = range(17, 19)
NUM_DRAWS = 19


def draw_changes(num: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), one row a sample (num, draws), on the generator's device.

    Rows are drawn in order (on a CPU): a slice of them is what these samples get in any batch.
    """
    return torch.rand(num, NUM_DRAWS, generator=generator, device=generator.device)


def draw_part(changes: Tensor, strength: float) -> Tensor:
    """Part of the way to a target that each sample goes (B,), uniform in [0, strength), float64."""
    return changes[:, TARGET_AMOUNT].double() * strength


def draw_target(changes: Tensor, num_targets: int) -> tuple[Tensor, Tensor]:
    """Index of each sample's target, all alike, and what is left of the draw: another in [0, 1)."""
    places = changes[:, TARGET_DOMAIN].double() * num_targets
    which = places.long()
    return which, places - which


def signed(changes: Tensor, draw: int | slice, strength: float) -> Tensor:
    """Uniform in +-strength, (B,) for one draw and (B, n) for a slice of n, float64."""
    return (changes[:, draw].double() * 2 - 1) * strength
