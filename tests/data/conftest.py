"""Small domains of correlated colors, away from black and white."""

from collections.abc import Callable

import numpy as np
import pytest

from hf_wbc.data.table import Table

SIDE = 12


def draw_domain(seed: int, num: int = 40, spread: float = 12.0, label: int = 0) -> Table:
    """Draw images with their own mean and spread; `spread=0` gives a single color."""
    rng = np.random.default_rng(seed)
    mix = rng.uniform(-0.5, 0.5, (3, 3)) + np.eye(3)
    colors = spread * rng.normal(size=(num, SIDE, SIDE, 3)) @ mix + rng.uniform(90, 160, 3)
    return Table(
        chunks=(colors.clip(30, 225).round().astype(np.uint8),),
        labels=np.full(num, label),
        domains=np.zeros(num, dtype=np.int64),
        image_ids=[f"{seed}_{row}" for row in range(num)],
        domain_names=(f"domain_{seed}",),
    )


@pytest.fixture
def domain() -> Callable[..., Table]:
    """Draw a domain; see `draw_domain`."""
    return draw_domain
