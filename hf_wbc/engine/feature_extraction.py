"""Extract the features of a domain in parts, so that a killed process loses little work.

Images are decoded while the network computes and are not kept. Finished rows are saved as parts
every `SAVE_S` seconds. The same call resumes after the last part, with the same batches and thus to
the same bits.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_wbc.config import Augmentation
from hf_wbc.data.augment import apply_augmentation
from hf_wbc.data.augment_ops import draw_augmentation_params
from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.pixel_cache import stream_pixels
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.forward import (
    Forward,
    Report,
    Runtime,
    batch_size_for,
    forward_batches,
)
from hf_wbc.models import PretrainedModel
from hf_wbc.records import atomic_replace, digest, remove

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["SAVE_S", "FeatureViews", "extract_features"]

SAVE_S = 20.0
"""Seconds between two parts: what a killed process loses at most, apart from one batch."""
ROWS_AT_ONCE = 320
"""Images that are decoded ahead, about."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureViews:
    """Several randomly augmented views of each image."""

    num: int
    """Number of views V of each image."""
    augmentation: Augmentation
    """Strength of the random changes. View v of row i depends on nothing but v, i and this."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError(f"views is {self.num}; it must be at least 1")
        if self.augmentation.target_shift:
            raise ValueError(
                f"augmentation.target_shift is {self.augmentation.target_shift}; embedded views "
                "know no target, so leave it at 0"
            )


def extract_features(
    pretrained: PretrainedModel,
    domain: DomainSplit,
    geometry: Geometry,
    work: Path,
    accelerator: "Accelerator",
    report: Report,
    runtime: Runtime | None = None,
    views: FeatureViews | None = None,
) -> Floats:
    """Extract the features of all rows of a domain, resuming from the parts in `work`.

    Args:
        pretrained: The model; it is moved to the accelerator's device.
        domain: N images.
        geometry: Size and interpolation of the model's input.
        work: Folder of the parts; the caller deletes it at the end.
        accelerator: Its processes share the rows.
        report: Called with the number of images done, and the total.
        runtime: Computes the features; None is eager torch.
        views: Augmented views to extract instead of the images as they are.

    Returns:
        Features (N, d), or (N, V, d) of V views; on the main process only, others get no rows.
    """
    device, classifier = accelerator.device, pretrained.classifier
    classifier.to(device).eval()
    forward: Forward = classifier
    batch_size = batch_size_for((geometry.size, geometry.size, 3), device)
    if runtime is not None:
        features_of, batch_size = runtime.features, runtime.batch_size
        forward = lambda inputs: (features_of(inputs),)  # noqa: E731
    world, total = accelerator.num_processes, len(domain)
    num_each = -(-total // world)
    parts = _Parts(work / digest(_plan(runtime, batch_size, accelerator)), accelerator, total)
    done = parts.num_done
    report(min(done * world, total), total)
    rows = np.minimum(np.arange(num_each) * world + accelerator.process_index, total - 1)[done:]
    at_once = batch_size * max(1, ROWS_AT_ONCE // batch_size)
    plain = ImagePreprocessing(pretrained.preprocessing.mean, pretrained.preprocessing.std)
    with closing(
        stream_pixels(domain, geometry, rows, at_once, 1 if world > 1 else None)
    ) as blocks:
        batches = _batches(blocks, batch_size)
        if views is not None:
            batches = _augmented(batches, rows, views, plain, total, device)
        outputs = forward_batches(forward, batches, plain, device)
        for features in _by_image((each[0] for each in outputs), views):
            done += len(features)
            parts.add(features, done, is_last=done == num_each)
            report(min(done * world, total), total)
    return parts.read()


def _plan(
    runtime: Runtime | None, batch_size: int, accelerator: "Accelerator"
) -> dict[str, str | int]:
    """Return what must not change between the parts of one file."""
    return {
        "runtime": "torch" if runtime is None else f"{runtime.name} {runtime.precision}",
        "version": torch.__version__ if runtime is None else runtime.version,
        "batch_size": batch_size,
        "num_processes": accelerator.num_processes,
        "device": accelerator.device.type,
    }


def _batches(blocks: Iterable[npt.NDArray[np.uint8]], batch_size: int) -> Iterator[Tensor]:
    for block in blocks:
        yield from torch.split(torch.from_numpy(block), batch_size)


def _augmented(
    batches: Iterable[Tensor],
    rows: npt.NDArray[np.int64],
    views: FeatureViews,
    plain: ImagePreprocessing,
    total: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """Yield every view of each batch, normalized (B, 3, S, S); `rows` are those of the batches."""
    generators = (torch.Generator().manual_seed(view) for view in range(views.num))
    draws = [draw_augmentation_params(total, generator) for generator in generators]
    for batch in batches:
        mine, rows = rows[: len(batch)], rows[len(batch) :]
        for params in draws:
            yield apply_augmentation(
                batch.to(device), params[mine], views.augmentation, plain.mean, plain.std
            )


def _by_image(outputs: Iterator[Tensor], views: FeatureViews | None) -> Iterator[Tensor]:
    """Yield the features of each batch, (B, d), or (B, V, d) of V successive views."""
    if views is None:
        yield from outputs
        return
    for first in outputs:
        yield torch.stack([first, *(next(outputs) for _ in range(views.num - 1))], 1)


class _Parts:
    """Files of consecutive rows, named by the numbers of rows that each process has done."""

    def __init__(self, folder: Path, accelerator: "Accelerator", total: int) -> None:
        """Find the parts of an earlier call; those of other plans are deleted."""
        self._folder, self._accelerator, self._total = folder, accelerator, total
        if accelerator.is_main_process:
            for other in folder.parent.glob("*/"):
                if other != folder:
                    remove(other)
            folder.mkdir(parents=True, exist_ok=True)
        accelerator.wait_for_everyone()
        self.num_done = max((stop for _, stop in self._intervals()), default=0)
        """Rows that each process has done."""
        accelerator.wait_for_everyone()  # no process writes before all have read
        self._first, self._saved_at = self.num_done, time.monotonic()
        self._pending: list[Tensor] = []

    def add(self, features: Tensor, num_done: int, is_last: bool) -> None:
        """Add the features of this process's next rows, and save a part from time to time."""
        self._pending.append(features)
        is_due = time.monotonic() - self._saved_at >= SAVE_S
        if self._accelerator.num_processes > 1:  # the main process decides
            flags = torch.tensor([is_due], device=self._accelerator.device)
            is_due = bool(self._accelerator.gather(flags)[0])
        if is_due or is_last:
            self._save(num_done)

    def _save(self, num_done: int) -> None:
        mine = torch.cat(self._pending)
        of_all = self._accelerator.gather(mine).view(-1, *mine.shape).transpose(0, 1).flatten(0, 1)
        if self._accelerator.is_main_process:
            first = self._first * self._accelerator.num_processes
            values = of_all[: self._total - first].cpu().numpy()
            path = self._path(self._first, num_done)
            with atomic_replace(path) as temporary, temporary.open("wb") as file:
                np.save(file, values)
        self._pending, self._first, self._saved_at = [], num_done, time.monotonic()

    def read(self) -> Floats:
        """Read all parts on the main process."""
        if not self._accelerator.is_main_process:
            return np.empty((0, 0), np.float32)
        try:
            return np.concatenate([np.load(self._path(*each)) for each in self._intervals()])
        except (ValueError, EOFError) as error:
            raise ValueError(f"a part in {self._folder} is damaged ({error}); delete it") from error

    def _intervals(self) -> list[tuple[int, int]]:
        """Return first and last row of the parts that follow each other without a gap."""
        found, stop = list[tuple[int, int]](), 0
        for path in sorted(self._folder.glob("*-*.npy")):
            first, last = map(int, path.stem.split("-"))
            if first != stop:
                break
            found.append((first, last))
            stop = last
        return found

    def _path(self, first: int, stop: int) -> Path:
        return self._folder / f"{first:09}-{stop:09}.npy"
