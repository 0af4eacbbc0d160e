"""Training batches as a pure function of the step, so that resuming requires no loader state.

`hf_wbc.data.sampler` chooses the rows of a step, and `BatchLoader` turns them into batches on the
device.

Distributed training. All processes make the same global draw of a step and take disjoint slices of
its rows and of its augmentation parameters. Two processes with batches of B therefore see the same
samples as one process with batches of 2B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    weaker_augmentation,
)
from hf_wbc.data.augment_ops import draw_augmentation_params
from hf_wbc.data.batch import Batch, SourceView, TargetBatch, TargetView
from hf_wbc.data.image_statistics import color_statistics, color_transfer_map
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.sampler import Balance, Sampler
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.style_transfer import TargetStyleSampler, build_style_sampler, style_maps
from hf_wbc.data.table import Table
from hf_wbc.taxonomy import UNLABELED

__all__ = ["BatchLoader", "LoaderConfig"]

_SOURCE, _TARGET, _ADAPTING, _LABELED, _LABELED_ADAPTING = range(5)
"""Sides of a batch: source and target of the first phase, target of the second phase, and labeled
target rows of either."""
_WEAK, _STRONG = 0, 1
_UNSCALED = ImagePreprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How batches are drawn and augmented."""

    batch_size: int
    """Source images per process and forward pass; a target batch has as many."""
    num_steps: int
    """Optimizer steps of the first phase, for `Batch.progress`."""
    balance: Balance = "class_domain"
    """Groups of source rows to draw equally often."""
    augmentation: Augmentation | None = None
    """Random changes of images; None preprocesses them as for prediction."""
    strong_views: bool = False
    """Add a second view: images at double strength, or features with dropout."""
    pair_target: bool = True
    """Add target images to first-phase batches; otherwise only the second phase sees them."""
    um: float = CROP_UM
    """Side of the images in um."""
    seed: int = 0
    """Seed of sampling and augmentation."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    rank: int = 0
    """Index of this process among `world_size`."""
    world_size: int = 1
    """Number of processes."""
    device: torch.device | str = "cpu"
    """Device of the batches."""

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size
        assert min(self.batch_size, self.gradient_accumulation_steps, self.num_steps) > 0


class BatchLoader:
    """Batches of a source table and, optionally, a target table with the same row shape."""

    def __init__(
        self,
        source: Table,
        target: Table | None,
        config: LoaderConfig,
        *,
        labeled: Table | None = None,
        preprocessing: Mapping[str, ImagePreprocessing] | None = None,
        style_targets: Sequence[Table] = (),
    ) -> None:
        """Check the tables against the configuration and measure target styles.

        Args:
            source: Labeled rows.
            target: Rows whose labels are replaced by -1 before anything reads them.
            config: How to draw and augment.
            labeled: Rows of a target that a person has labeled, drawn with the source's balance.
            preprocessing: Preprocessing by domain name; None only scales intensities to [0, 1].
            style_targets: Images of each target, required by `augmentation.target_shift`.

        Raises:
            ValueError: If source rows are unlabeled, source and target rows differ in shape, a
                target shift has no target, or a target style has no shift.
        """
        augmentation = config.augmentation
        _check_tables(source, target, labeled)
        if augmentation:
            _check_augmentation(augmentation, config.um, style_targets)
        self._source, self._target, self._labeled = source, target, labeled
        self._config = config
        self._augmentation = augmentation or NO_CHANGE
        self._levels = {
            each: _DomainLevels(each, preprocessing or dict.fromkeys(each.domain_names, _UNSCALED))
            for each in (source, target, labeled)
            if each
        }
        self._color_maps: Tensor | None = None
        self._style: TargetStyleSampler | None = None
        if self._augmentation.target_shift and self._augmentation.target_style == "colors":
            self._color_maps = style_maps(
                source, style_targets, color_statistics, color_transfer_map
            )
        elif self._augmentation.target_shift:
            style = self._augmentation.target_style
            self._style = build_style_sampler(style, source, style_targets)
        self._device, seed = torch.device(config.device), config.seed
        self._source_rows = {
            side: Sampler(table.labels, table.domains, config.balance, _seed(seed, side))
            for side, table in (
                (_SOURCE, source), (_LABELED, labeled), (_LABELED_ADAPTING, labeled),
            )
            if table
        }  # fmt: skip
        if target:
            per_domain: Balance = "domain" if len(target.domain_names) > 1 else "none"
            hidden = np.full(len(target), UNLABELED)
            self._target_rows = {
                side: Sampler(hidden, target.domains, per_domain, _seed(seed, side))
                for side in (_TARGET, _ADAPTING)
            }

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Return the batch of a forward pass of the first phase.

        Args:
            step: Optimizer step, counted from 0.
            micro: Forward pass within the step, counted from 0.
        """
        assert 0 <= micro < self._config.gradient_accumulation_steps
        source = self._source_view(self._source, (step, micro, _SOURCE))
        target = None
        if self._target and self._config.pair_target:
            target = self._target_view(step, micro, _TARGET)
        return Batch(
            source=source,
            target=target,
            progress=step / self._config.num_steps,
            labeled=self._labeled_view(step, micro, _LABELED),
        )

    def target_batch(self, step: int, num_steps: int, micro: int = 0) -> TargetBatch:
        """Return the batch of a forward pass of the second phase.

        The draws of the second phase are independent of those of the first.

        Args:
            step: Optimizer step of the second phase, counted from 0.
            num_steps: Optimizer steps of the second phase, which only determines
                `TargetBatch.progress`.
            micro: Forward pass within the step, counted from 0.
        """
        assert 0 <= micro < self._config.gradient_accumulation_steps and 0 <= step < num_steps
        assert self._target
        view = self._target_view(step, micro, _ADAPTING)
        done = (
            (step * self._config.gradient_accumulation_steps + micro)
            * self._config.world_size
            * self._config.batch_size
        )
        return TargetBatch(
            target=view,
            progress=step / num_steps,
            epochs=done / len(self._target),
            labeled=self._labeled_view(step, micro, _LABELED_ADAPTING),
        )

    def _source_view(self, table: Table, key: tuple[int, int, int]) -> SourceView:
        rows = self._local_rows(self._source_rows[key[2]], *key[:2])
        labels = self._to_device(torch.from_numpy(table.labels[rows]))
        return SourceView(**self._view(table, rows, key), labels=labels)

    def _labeled_view(self, step: int, micro: int, side: int) -> SourceView | None:
        if self._labeled is None:
            return None
        return self._source_view(self._labeled, (step, micro, side))

    def _target_view(self, step: int, micro: int, side: int) -> TargetView:
        assert self._target
        rows = self._local_rows(self._target_rows[side], step, micro)
        return TargetView(**self._view(self._target, rows, (step, micro, side)))

    def _local_rows(self, sampler: Sampler, step: int, micro: int) -> np.ndarray:
        """Return this process's rows of the global draw, ordered by (micro, rank, sample)."""
        drawn = sampler.draw(
            self._config.batch_size
            * self._config.world_size
            * self._config.gradient_accumulation_steps,
            step,
        )
        shape = (
            self._config.gradient_accumulation_steps,
            self._config.world_size,
            self._config.batch_size,
        )
        rows: np.ndarray = drawn.reshape(shape)[micro, self._config.rank]
        return rows

    def _view(self, table: Table, rows: np.ndarray, key: tuple[int, int, int]) -> dict[str, Tensor]:
        """Return the fields that source and target views share."""
        cells = table.batch(rows, pinned=self._device.type == "cuda")
        cells = cells.to(self._device, non_blocking=True)
        domains = torch.from_numpy(table.domains[rows])
        view = {
            "inputs": cells,
            "domains": self._to_device(domains),
            "index": self._to_device(torch.from_numpy(rows)),
        }
        view["inputs"] = self._changed(cells, table, domains, (*key, _WEAK))
        if self._config.strong_views:
            view["strong"] = self._changed(cells, table, domains, (*key, _STRONG))
        return view

    def _changed(
        self, cells: Tensor, table: Table, domains: Tensor, key: tuple[int, int, int, int]
    ) -> Tensor:
        """Return preprocessed and augmented images (B, 3, H, W), float32, or features (B, d)."""
        if not table.is_pixels:
            return self._features(cells, key)
        strength = self._augmentation
        levels, is_source, transfer = self._levels[table], key[2] == _SOURCE, None
        if key[-1] == _STRONG:
            strength = stronger_augmentation(strength)
        elif self._config.strong_views and not is_source:
            strength = weaker_augmentation(strength)
        params = self._local_slice(
            draw_augmentation_params(
                self._config.world_size * self._config.batch_size, self._generator(key)
            )
        )
        if is_source and self._style:
            transfer = self._style.draw(params, domains, strength.target_shift, self._device)
        color_maps = None
        if is_source and self._color_maps is not None:
            color_maps = self._color_maps[domains]
        return apply_augmentation(
            cells,
            params,
            strength,
            levels.mean[domains],
            levels.std[domains],
            self._config.um,
            blur_um=levels.blur_um[domains],
            color_maps=color_maps,
            style_transfer=transfer,
        )

    def _features(self, features: Tensor, key: tuple[int, int, int, int]) -> Tensor:
        """Return features (B, d) from (B, d), or from one random view each of (B, V, d).

        Strong features also get dropout.
        """
        num = self._config.world_size * self._config.batch_size
        if features.ndim == 3:
            generator = self._generator((*key, 1))  # apart from that of the dropout
            drawn = self._local_slice(torch.randint(features.shape[1], (num,), generator=generator))
            features = features[torch.arange(len(features)), self._to_device(drawn)]
        if key[-1] == _WEAK:
            return features
        uniform = draw_feature_dropout(num, features.shape[1], self._generator(key))
        return drop_features(features, self._to_device(self._local_slice(uniform)))

    def _generator(self, key: tuple[int, ...]) -> torch.Generator:
        return torch.Generator().manual_seed(_seed(self._config.seed, *key))

    def _local_slice(self, drawn: Tensor) -> Tensor:
        """Return this process's rows of parameters drawn for all processes."""
        first = self._config.rank * self._config.batch_size
        return drawn[first : first + self._config.batch_size]

    def _to_device(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)


class _DomainLevels:
    """Normalization and blur of each domain of a table, by domain index."""

    def __init__(self, table: Table, preprocessing: Mapping[str, ImagePreprocessing]) -> None:
        mine = [preprocessing[name] for name in table.domain_names]
        self.mean = torch.tensor([each.mean for each in mine], dtype=torch.float64)
        self.std = torch.tensor([each.std for each in mine], dtype=torch.float64)
        self.blur_um = torch.tensor([each.blur_um for each in mine])


def _seed(*key: int) -> int:
    """Derive one seed from several numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _check_tables(source: Table, target: Table | None, labeled: Table | None) -> None:
    if num_unlabeled := int((source.labels < 0).sum()):
        raise ValueError(
            f"{num_unlabeled} source rows of {', '.join(source.domain_names)} are unlabeled; "
            "a dataset without labels can only be a target: give it with --target"
        )
    for each in (target, labeled):
        if each and each.shape != source.shape:
            raise ValueError(f"source rows have shape {source.shape}, but target rows {each.shape}")


def _check_augmentation(
    augmentation: Augmentation, um: float, style_targets: Sequence[Table]
) -> None:
    check_strength(augmentation, um)
    if augmentation.target_shift and not style_targets:
        raise ValueError("target_shift requires images of a target; name one with --target")
    if augmentation.target_style != "colors" and not augmentation.target_shift:
        raise ValueError(
            f"target_style {augmentation.target_style} has no effect at a target_shift of 0; "
            "set target_shift as well"
        )
