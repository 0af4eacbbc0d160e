"""The batches of a run: each a pure function of its step, so that nothing has to be resumed.

All processes make the same global draw of a step and take disjoint slices of it, rows and random
changes alike: two processes with batches of B see what one with batches of 2B sees.

Which rows a step sees: a pure function of (seed, step), so that resuming needs no loader state.

Rows lie in cells: all rows, the rows of a domain, or the rows of a class in a domain. Draws go in
rounds; a round visits every cell once, in an order of its own, and each visit takes the next row of
the cell's own permutation, a new one whenever it is used up. So cells are drawn exactly alike, and
no row of a cell comes twice before all others came once."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hf_wbc.config import Augmentation
from hf_wbc.data.augment import (
    NO_CHANGE,
    apply_augmentation,
    check_strength,
    draw_feature_dropout,
    drop_features,
    stronger_augmentation,
)
from hf_wbc.data.augment_ops import draw_augmentation_params
from hf_wbc.data.batch import Batch, SourceView, TargetBatch, TargetView
from hf_wbc.data.image_statistics import color_statistics, color_transfer_map
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.style_transfer import TargetStyleSampler, build_style_sampler, style_maps
from hf_wbc.data.table import Table

Balance = Literal["class_domain", "domain", "none"]
_BLOCK = 1024
"""Items that are permuted in one go, where a permutation is shorter."""


def draw_indices(
    labels: np.ndarray, domains: np.ndarray, batch_size: int, balance: Balance, seed: int, step: int
) -> np.ndarray:
    """Row numbers (batch_size,) of a step; `Sampler` is the same and faster in a loop."""
    return Sampler(labels, domains, balance, seed).draw(batch_size, step)


class Sampler:
    """The cells of a table, each with its permutations; what it remembers only saves time."""

    def __init__(
        self, labels: np.ndarray, domains: np.ndarray, balance: Balance, seed: int
    ) -> None:
        """`labels`, `domains` (N,) int64; ValueError for unlabelled rows balanced by class."""
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if len(labels) == 0:
            raise ValueError("no rows to draw from")
        cells = _cells(labels, domains, balance)
        self._visits = _Permutations(np.arange(len(cells)), (seed, 0))
        self._cells = [_Permutations(rows, (seed, 1, cell)) for cell, rows in enumerate(cells)]

    def draw(self, batch_size: int, step: int) -> np.ndarray:
        """Row numbers (batch_size,) of a step from 0; steps follow each other without overlap."""
        num_cells = len(self._cells)
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        first, stop = int(positions[0]) // num_cells, int(positions[-1]) // num_cells + 1
        visits = self._visits.take(first * num_cells, stop * num_cells)
        rows = np.stack([cell.take(first, stop) for cell in self._cells])
        positions -= first * num_cells
        drawn: np.ndarray = rows[visits[positions], positions // num_cells]
        return drawn


class _Permutations:
    """One random permutation of `items` after another without end, read at any place."""

    def __init__(self, items: np.ndarray, seed: tuple[int, ...]) -> None:
        self._items, self._seed = items, seed
        self._per_block = max(1, _BLOCK // len(items))
        self._blocks: dict[int, np.ndarray] = {}

    def take(self, start: int, stop: int) -> np.ndarray:
        """The items at `start` to `stop` - 1."""
        length = self._per_block * len(self._items)
        first, last = start // length, (stop - 1) // length
        self._blocks = {
            block: self._blocks[block] if block in self._blocks else self._make(block)
            for block in range(first, last + 1)
        }
        items = np.concatenate([*self._blocks.values()])
        return items[start - first * length : stop - first * length]

    def _make(self, block: int) -> np.ndarray:
        rng = np.random.default_rng((*self._seed, block))
        copies = np.tile(self._items, (self._per_block, 1))
        return rng.permuted(copies, axis=1).ravel()


def _cells(labels: np.ndarray, domains: np.ndarray, balance: Balance) -> list[np.ndarray]:
    """The row numbers of every cell that has rows."""
    if balance == "none":
        return [np.arange(len(labels))]
    if balance == "domain":
        return [np.flatnonzero(domains == domain) for domain in np.unique(domains)]
    if balance != "class_domain":
        raise ValueError(f"unknown balance {balance!r}; choose from class_domain, domain, none")
    if (labels < 0).any():
        raise ValueError(
            f"{int((labels < 0).sum())} rows are unlabelled and cannot be balanced by class; "
            "use --balance domain or a labelled dataset"
        )
    keys = np.stack([labels, domains])
    return [np.flatnonzero((keys == key[:, None]).all(0)) for key in np.unique(keys, axis=1).T]


_SOURCE, _TARGET, _ADAPTING = 0, 1, 2
"""Sides of a batch: source and target of the first phase, target of the second."""
_WEAK, _STRONG = 0, 1
_UNTREATED = ImagePreprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class BatchLoader:
    """Batches of a source table and, when there is one, a target table of the same shape."""

    def __init__(
        self,
        source: Table,
        target: Table | None = None,
        *,
        batch_size: int,
        num_steps: int,
        balance: Balance = "class_domain",
        augmentation: Augmentation | None = None,
        treatments: Mapping[str, ImagePreprocessing] | None = None,
        towards: Sequence[Table] = (),
        strong: bool = False,
        paired: bool = True,
        um: float = CROP_UM,
        seed: int = 0,
        accumulation: int = 1,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        """`batch_size` counts source images per process and forward pass, and as many target ones.

        `augmentation` None only treats images as at prediction: by `treatments` of each domain's
        name, or else as intensities in [0, 1]. `towards` are the targets' images, whose style a
        `target_shift` needs. `strong` adds a second view: images at double strength, features with
        dropout. Not `paired`, target images are for the second phase alone. `um` is the side of the
        frame. ValueError for unlabelled source rows, images on one side and features on the other,
        a target shift towards nothing, or a target style without a shift.
        """
        if num_unlabelled := int((source.labels < 0).sum()):
            raise ValueError(
                f"{num_unlabelled} source rows of {', '.join(source.domain_names)} are unlabelled; "
                "a dataset without labels can only be a target: give it with --target"
            )
        if target and target.shape != source.shape:
            raise ValueError(f"source rows are {source.shape} and target rows {target.shape}")
        if augmentation:
            check_strength(augmentation, um)
            if augmentation.target_shift and not towards:
                raise ValueError("target_shift needs a target's images; name one with --target")
            if augmentation.target_style != "colours" and not augmentation.target_shift:
                raise ValueError(
                    f"target_style is {augmentation.target_style}, but nothing moves to it at a "
                    "target_shift of 0; give target_shift too"
                )
        assert 0 <= rank < world and batch_size > 0 and accumulation > 0 and num_steps > 0
        self._source, self._target = source, target
        self._batch_size, self._num_steps = batch_size, num_steps
        self._augmentation = augmentation or NO_CHANGE
        self._looks = {
            table: _Look(table, treatments or dict.fromkeys(table.domain_names, _UNTREATED))
            for table in (source, target)
            if table
        }
        self._um = um
        self._maps: Tensor | None = None
        self._style: TargetStyleSampler | None = None
        if self._augmentation.target_shift and self._augmentation.target_style == "colours":
            self._maps = style_maps(source, towards, color_statistics, color_transfer_map)
        elif self._augmentation.target_shift:
            self._style = build_style_sampler(self._augmentation.target_style, source, towards)
        self._strong, self._paired, self._seed = strong, paired, seed
        self._accumulation, self._rank, self._world = accumulation, rank, world
        self._device = torch.device(device)
        self._source_rows = Sampler(source.labels, source.domains, balance, _seed(seed, _SOURCE))
        if target:
            per_domain: Balance = "domain" if len(target.domain_names) > 1 else "none"
            self._target_rows = {
                side: Sampler(target.labels, target.domains, per_domain, _seed(seed, side))
                for side in (_TARGET, _ADAPTING)
            }

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Forward pass `micro` of optimizer step `step`, both counted from 0."""
        assert 0 <= micro < self._accumulation
        source_rows = self._mine(self._source_rows, step, micro)
        labels = torch.from_numpy(self._source.labels[source_rows])
        source = SourceView(
            **self._view(self._source, source_rows, (step, micro, _SOURCE)),
            labels=self._put(labels),
        )
        target = None
        if self._target and self._paired:
            target = self._target_view(step, micro, _TARGET)
        return Batch(source=source, target=target, progress=step / self._num_steps)

    def target_batch(self, step: int, num_steps: int, micro: int = 0) -> TargetBatch:
        """Forward pass `micro` of step `step` of a second phase that takes `num_steps`, from 0.

        Other draws than the first phase's; `num_steps` only says how far the phase is.
        """
        assert 0 <= micro < self._accumulation and 0 <= step < num_steps
        assert self._target
        view = self._target_view(step, micro, _ADAPTING)
        done = (step * self._accumulation + micro) * self._world * self._batch_size
        return TargetBatch(target=view, progress=step / num_steps, epochs=done / len(self._target))

    def _target_view(self, step: int, micro: int, side: int) -> TargetView:
        assert self._target
        rows = self._mine(self._target_rows[side], step, micro)
        return TargetView(**self._view(self._target, rows, (step, micro, side)))

    def _mine(self, sampler: Sampler, step: int, micro: int) -> np.ndarray:
        """This process's rows of the step's global draw, which lies as (micro, rank, sample)."""
        drawn = sampler.draw(self._batch_size * self._world * self._accumulation, step)
        shape = (self._accumulation, self._world, self._batch_size)
        rows: np.ndarray = drawn.reshape(shape)[micro, self._rank]
        return rows

    def _view(self, table: Table, rows: np.ndarray, key: tuple[int, int, int]) -> dict[str, Tensor]:
        """The fields of a view that source and target share."""
        cells = table.batch(rows, pinned=self._device.type == "cuda")
        cells = cells.to(self._device, non_blocking=True)
        domains = torch.from_numpy(table.domains[rows])
        view = {
            "inputs": cells,
            "domains": self._put(domains),
            "index": self._put(torch.from_numpy(rows)),
        }
        if table.is_pixels:
            view["inputs"] = self._change(cells, table, domains, (*key, _WEAK))
        if self._strong and table.is_pixels:
            view["strong"] = self._change(cells, table, domains, (*key, _STRONG))
        elif self._strong:
            view["strong"] = self._drop(cells, (*key, _STRONG))
        return view

    def _change(
        self, cells: Tensor, table: Table, domains: Tensor, key: tuple[int, int, int, int]
    ) -> Tensor:
        """Treated and augmented images (B, 3, H, W) float32."""
        strength = self._augmentation
        if key[-1] == _STRONG:
            strength = stronger_augmentation(strength)
        look, is_source, way = self._looks[table], key[2] == _SOURCE, None
        mine = self._share(
            draw_augmentation_params(self._world * self._batch_size, self._generator(key))
        )
        if is_source and self._style:
            way = self._style.draw(mine, domains, strength.target_shift, self._device)
        return apply_augmentation(
            cells,
            mine,
            strength,
            look.mean[domains],
            look.std[domains],
            self._um,
            blur_um=look.blur_um[domains],
            towards=self._maps[domains] if is_source and self._maps is not None else None,
            way=way,
        )

    def _drop(self, features: Tensor, key: tuple[int, int, int, int]) -> Tensor:
        """Features (B, d) with dropout."""
        num, generator = self._world * self._batch_size, self._generator(key)
        uniform = self._share(draw_feature_dropout(num, features.shape[1], generator))
        return drop_features(features, self._put(uniform))

    def _generator(self, key: tuple[int, int, int, int]) -> torch.Generator:
        return torch.Generator().manual_seed(_seed(self._seed, *key))

    def _share(self, drawn: Tensor) -> Tensor:
        """This process's rows of what was drawn for the forward passes of all."""
        first = self._rank * self._batch_size
        return drawn[first : first + self._batch_size]

    def _put(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)


class _Look:
    """The treatments of a table's domains, by their index."""

    def __init__(self, table: Table, treatments: Mapping[str, ImagePreprocessing]) -> None:
        mine = [treatments[name] for name in table.domain_names]
        self.mean = torch.tensor([treatment.mean for treatment in mine], dtype=torch.float64)
        self.std = torch.tensor([treatment.std for treatment in mine], dtype=torch.float64)
        self.blur_um = torch.tensor([treatment.blur_um for treatment in mine])


def _seed(*key: int) -> int:
    """One seed for a key of several numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
