"""A table: rows in memory-mapped chunks, read by any list of row numbers into one tensor.

It holds images as uint8 pixels or embedded features as float32, and of each row its label, domain
and image id. Nothing is decoded here: a batch is one copy of the rows it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hf_wbc.taxonomy import NUM_CLASSES, UNLABELED


@dataclass(frozen=True, eq=False)
class Table:
    """N rows of one shape: (H, W, 3) uint8 pixels, or (d,) float32 features."""

    chunks: tuple[np.ndarray, ...]
    """The rows in order, each chunk (n, *shape); usually views of memory-mapped files."""
    labels: np.ndarray
    """Class ids (N,), int64; -1 is unlabelled."""
    domains: np.ndarray
    """Index into `domain_names` (N,), int64."""
    image_ids: list[str]
    """The archive's own file name of each row."""
    domain_names: tuple[str, ...]

    def __post_init__(self) -> None:
        num_rows = sum(len(chunk) for chunk in self.chunks)
        lengths = {num_rows, len(self.labels), len(self.domains), len(self.image_ids)}
        if len(lengths) != 1 or num_rows == 0:
            raise ValueError(
                f"{num_rows} rows with {len(self.labels)} labels, {len(self.domains)} domains and "
                f"{len(self.image_ids)} image ids; a table needs as many of each, and some"
            )
        kinds = {(chunk.shape[1:], chunk.dtype) for chunk in self.chunks}
        if len(kinds) != 1:
            raise ValueError(f"rows differ in shape or type: {sorted(map(str, kinds))}")
        if self.labels.min() < UNLABELED or self.labels.max() >= NUM_CLASSES:
            raise ValueError(f"labels must lie in -1..{NUM_CLASSES - 1}")
        assert self.domains.min() >= 0 and self.domains.max() < len(self.domain_names)

    @classmethod
    def unlabeled(
        cls, rows: np.ndarray, image_ids: Sequence[str] | None = None, name: str = "images"
    ) -> Self:
        """Rows (N, ...) of one domain whose labels nobody knows; `image_ids` None names none."""
        zeros = np.zeros(len(rows), np.int64)
        ids = [""] * len(rows) if image_ids is None else list(image_ids)
        return cls((rows,), zeros + UNLABELED, zeros, ids, (name,))

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each chunk, and the number of rows."""
        return np.cumsum([0, *map(len, self.chunks)])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.chunks[0].shape[1:]

    @property
    def is_pixels(self) -> bool:
        """True for uint8 images, False for features."""
        return self.chunks[0].dtype == np.uint8

    def batch(self, indices: np.ndarray, *, pinned: bool = False) -> Tensor:
        """Rows `indices` (B,) as (B, *shape), uint8 or float32, in the order asked for.

        `pinned` puts them in page-locked memory, from which a copy to a GPU need not wait.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"row numbers must lie in 0..{len(self) - 1}")
        dtype = torch.uint8 if self.is_pixels else torch.float32
        rows = torch.empty((len(indices), *self.shape), dtype=dtype, pin_memory=pinned)
        if len(self.chunks) == 1:
            np.take(self.chunks[0], indices, axis=0, out=rows.numpy(), mode="clip")
            return rows
        which = np.searchsorted(self._starts, indices, side="right") - 1
        within = indices - self._starts[which]
        out = rows.numpy()
        for place, (chunk, row) in enumerate(zip(which.tolist(), within.tolist(), strict=True)):
            out[place] = self.chunks[chunk][row]
        return rows


def feature_table(
    features: np.ndarray, labels: np.ndarray, image_ids: Sequence[str], domain_name: str
) -> Table:
    """Embedded features (N, d) of one domain."""
    return Table(
        chunks=(np.ascontiguousarray(features, dtype=np.float32),),
        labels=np.asarray(labels, dtype=np.int64),
        domains=np.zeros(len(features), dtype=np.int64),
        image_ids=list(image_ids),
        domain_names=(domain_name,),
    )


def concatenate(tables: Sequence[Table]) -> Table:
    """One table after the other; tables that name the same domain share its index."""
    if not tables:
        raise ValueError("no tables to concatenate; name at least one dataset")
    names = tuple(dict.fromkeys(name for table in tables for name in table.domain_names))
    domains = [
        np.array([names.index(name) for name in table.domain_names])[table.domains]
        for table in tables
    ]
    return Table(
        chunks=tuple(chunk for table in tables for chunk in table.chunks),
        labels=np.concatenate([table.labels for table in tables]),
        domains=np.concatenate(domains),
        image_ids=[image_id for table in tables for image_id in table.image_ids],
        domain_names=names,
    )
