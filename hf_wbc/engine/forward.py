"""Compute logits and features of a whole table, in order, across all processes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.data.table import Table
from hf_wbc.models import Classifier

if TYPE_CHECKING:
    from accelerate import Accelerator


Report = Callable[[int, int], None]
"""Called with the number of rows done, and the total."""
PIXELS_AT_ONCE = 2**18
"""Pixels per batch on a CPU: five images of 224 px.

glibc returns blocks larger than 32 MiB to the system immediately, so a larger batch spends more
time on allocating memory than on computing.
"""
FLIPS = ((), (3,), (2,), (2, 3))
"""Axes of images (B, 3, H, W) to flip; smears have no preferred orientation."""


@dataclass(frozen=True)
class Predictions:
    """Logits and features of N images."""

    logits: npt.NDArray[np.float32]
    """Logits (N, 11)."""
    features: npt.NDArray[np.float32]
    """Penultimate features (N, d)."""

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The most likely class of each image (N,)."""
        found: npt.NDArray[np.int64] = self.logits.argmax(1)
        return found

    def transform_logits(self, scale: float, bias: npt.NDArray[np.float64]) -> "Predictions":
        """Return the predictions with logits `scale * logits + bias`, with `bias` (11,)."""
        return replace(self, logits=(scale * self.logits + bias).astype(np.float32))


def without_progress_bars(done: int, total: int) -> None:
    """Ignore progress."""


@torch.inference_mode()
def predict(
    classifier: Classifier,
    table: Table,
    treatment: ImagePreprocessing,
    accelerator: "Accelerator",
    batch_size: int = 64,
    report: Report = without_progress_bars,
) -> Predictions:
    """Predict every row of a table in fp32.

    The classifier keeps its training or evaluation mode.

    Args:
        classifier: The classifier.
        table: N images or feature rows.
        treatment: Preprocessing of the domain's images. If its `flips` is set, logits and features
            are averaged over the image, its two mirror images and its rotation by 180 degrees.
        accelerator: Distributes the rows over processes.
        batch_size: Rows per forward pass; smaller for large images on a CPU.
        report: Called after each batch with the number of rows done, and the total.

    Returns:
        Predictions of all N rows, identical on every process.
    """
    flips = treatment.flips and table.is_pixels
    was_training = classifier.training
    classifier.eval()
    world, rank = accelerator.num_processes, accelerator.process_index
    num_each = -(-len(table) // world)
    rows = np.minimum(np.arange(num_each) * world + rank, len(table) - 1)
    if accelerator.device.type == "cpu" and len(table.shape) == 3:
        batch_size = max(1, min(batch_size, PIXELS_AT_ONCE // (table.shape[0] * table.shape[1])))
    logits, features = [], []
    for start in range(0, num_each, batch_size):
        inputs = table.batch(rows[start : start + batch_size]).to(accelerator.device)
        if inputs.dtype == torch.uint8:
            inputs = preprocess(inputs, treatment)
        views = [classifier(inputs.flip(axes)) for axes in (FLIPS if flips else FLIPS[:1])]
        logits.append(torch.stack([view.logits for view in views]).mean(0))
        features.append(torch.stack([view.features for view in views]).mean(0))
        report(min(start + batch_size, num_each), num_each)
    classifier.train(was_training)
    return Predictions(
        *(
            accelerator.gather(torch.cat(parts))
            .view(world, num_each, -1)
            .transpose(0, 1)
            .flatten(0, 1)[: len(table)]
            .cpu()
            .numpy()
            for parts in (logits, features)
        )
    )
