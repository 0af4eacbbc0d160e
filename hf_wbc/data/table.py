"""A table of images or features in memory-mapped chunks, with random access to rows.

It stores images as uint8 pixels or embedded features (one vector for each image, or one for each of
its views) as float32, and the label, domain and image id of each row. Nothing is decoded on access:
a batch is a copy of its rows.
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
    """N rows, maybe 0, of one shape: (H, W, 3) uint8 pixels, or (d,) or (V, d) float32 features."""

    chunks: tuple[np.ndarray, ...]
    """Rows in order as chunks (n, *shape), usually views of memory-mapped files."""
    labels: np.ndarray
    """Class ids (N,), int64; -1 is unlabeled."""
    domains: np.ndarray
    """Indices into `domain_names` (N,), int64."""
    image_ids: list[str]
    """File name of each row in the original archive."""
    domain_names: tuple[str, ...]

    def __post_init__(self) -> None:
        num_rows = sum(len(chunk) for chunk in self.chunks)
        lengths = {num_rows, len(self.labels), len(self.domains), len(self.image_ids)}
        if len(lengths) != 1 or not self.chunks:
            raise ValueError(
                f"{num_rows} rows with {len(self.labels)} labels, {len(self.domains)} domains and "
                f"{len(self.image_ids)} image ids; a table needs as many of each"
            )
        kinds = {(chunk.shape[1:], chunk.dtype) for chunk in self.chunks}
        if len(kinds) != 1:
            raise ValueError(f"rows differ in shape or type: {sorted(map(str, kinds))}")
        if not num_rows:
            return
        if self.labels.min() < UNLABELED or self.labels.max() >= NUM_CLASSES:
            raise ValueError(f"labels must lie in -1..{NUM_CLASSES - 1}")
        assert self.domains.min() >= 0 and self.domains.max() < len(self.domain_names)

    @classmethod
    def unlabeled(
        cls, rows: np.ndarray, image_ids: Sequence[str] | None = None, name: str = "images"
    ) -> Self:
        """Return a table of unlabeled rows (N, ...) of one domain.

        Args:
            rows: Pixels or features (N, ...).
            image_ids: Id of each row; None leaves them empty.
            name: Name of the domain.
        """
        zeros = np.zeros(len(rows), np.int64)
        ids = [""] * len(rows) if image_ids is None else list(image_ids)
        return cls((rows,), zeros + UNLABELED, zeros, ids, (name,))

    @cached_property
    def _starts(self) -> np.ndarray:
        """First row of each chunk, followed by the number of rows."""
        return np.cumsum([0, *map(len, self.chunks)])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.chunks[0].shape[1:]

    @property
    def is_pixels(self) -> bool:
        """Whether the rows are uint8 images, not features."""
        return self.chunks[0].dtype == np.uint8

    @property
    def num_views(self) -> int:
        """Number of augmented views of each image's features; 0 if rows have no such axis."""
        return self.shape[0] if len(self.shape) == 2 else 0

    def take(self, indices: np.ndarray, labels: np.ndarray) -> Self:
        """Return a table of copies of some rows (n,), with other labels (n,)."""
        return type(self)(
            chunks=(self.batch(indices).numpy(),),
            labels=np.asarray(labels, np.int64),
            domains=self.domains[indices],
            image_ids=[self.image_ids[row] for row in indices],
            domain_names=self.domain_names,
        )

    def batch(self, indices: np.ndarray, *, pinned: bool = False) -> Tensor:
        """Copy rows into one tensor.

        Args:
            indices: Row numbers (B,), in the order of the result.
            pinned: Use page-locked memory, which allows an asynchronous copy to a GPU.

        Returns:
            Rows (B, *shape), uint8 or float32.

        Raises:
            IndexError: If a row number is out of range.
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
    """Return a table of embedded features of one domain.

    Args:
        features: Features (N, d), or (N, V, d) of V views of each image.
        labels: Class ids (N,); -1 is unlabeled.
        image_ids: Id of each row.
        domain_name: Name of the domain.
    """
    return Table(
        chunks=(np.ascontiguousarray(features, dtype=np.float32),),
        labels=np.asarray(labels, dtype=np.int64),
        domains=np.zeros(len(features), dtype=np.int64),
        image_ids=list(image_ids),
        domain_names=(domain_name,),
    )


def concatenate(tables: Sequence[Table]) -> Table:
    """Concatenate tables; those that name the same domain share its index."""
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
