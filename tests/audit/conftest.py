"""In-memory cell readings with planted findings for an audit to detect."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hf_wbc.audit.measure import Folder, FolderReading


@pytest.fixture
def make_reading() -> Callable[..., FolderReading]:
    """Build a reading of N cells without any file; see `_make_reading`."""
    return _make_reading


def _make_reading(
    labels: Sequence[int],
    *,
    folder: Sequence[int] | None = None,
    split: Sequence[int] | None = None,
    groups: Sequence[str | None] | None = None,
    digests: Sequence[str] | None = None,
    size_px: Sequence[tuple[int, int]] | None = None,
    border: np.ndarray | None = None,
    provenance: dict[str, Any] | None = None,
    um_per_px: float | None = 0.1,
) -> FolderReading:
    """Build random, distinct cells in folders a, b, ... with the names cell_0, cell_1, ..."""
    num, rng = len(labels), np.random.default_rng(0)
    folder = np.zeros(num, int) if folder is None else np.array(folder)
    names = "abc"[: folder.max() + 1]
    return FolderReading(
        folders=tuple(
            Folder(name, name, "original", um_per_px, provenance or {}, ()) for name in names
        ),
        folder=folder,
        split=np.zeros(num, int) if split is None else np.array(split),
        labels=np.array(labels),
        image_ids=[f"cell_{row}" for row in range(num)],
        groups=list(groups or [None] * num),
        digests=list(digests or map(str, range(num))),
        size_px=np.array(size_px or [(360, 363)] * num, dtype=np.int32),
        scene=np.zeros((num, 48, 48), np.uint8),
        square=np.zeros((num, 48, 48), np.uint8),
        small=rng.integers(0, 256, (num, 32, 32, 3)).astype(np.uint8),
        border=rng.normal(size=(num, 18)).astype(np.float32) if border is None else border,
        background=np.full((num, 3), 220, np.float32),
        cell=np.full((num, 3), 120, np.float32),
        contrast=np.arange(num, dtype=np.float32),
        sharpness=np.ones(num, np.float32),
    )
