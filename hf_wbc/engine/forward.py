"""The one forward pass of evaluation, embedding and prediction, with any runtime.

`forward_batches` preprocesses batches and runs them through a callable: the classifier itself in
eager torch, or a `Runtime` such as OpenVINO or ONNX Runtime (see `hf_wbc.inference.runtimes`).
`predict` applies it to a whole table across all processes, `hf_wbc.engine.features.embed` to a
domain in resumable parts, and `hf_wbc.inference.runtime.run_runtime` to given crops.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.data.table import Table
from hf_wbc.models import Classifier, Output

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "FLIPS",
    "PIXELS_AT_ONCE",
    "Features",
    "Forward",
    "Precision",
    "Predictions",
    "Report",
    "Runtime",
    "batch_size_for",
    "forward_batches",
    "predict",
    "report_after",
    "runtime_forward",
    "without_progress_bars",
]

Precision = Literal["fp32", "bf16"]
Features = Callable[[Tensor], Tensor]
"""Maps normalized images (B, 3, H, W) fp32 to features (B, d) fp32 on the same device."""
Forward = Callable[[Tensor], Sequence[Tensor]]
"""Maps normalized images (B, 3, H, W), or features (B, d), to the wanted outputs, each (B, k)."""
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


def report_after(report: Report, num_before: int, total: int) -> Report:
    """Return a report for a part of a job, of whose `total` rows `num_before` are done already."""

    def shifted(done: int, _: int) -> None:
        report(num_before + done, total)

    return shifted


@dataclass(frozen=True)
class Runtime:
    """One way to compute features."""

    name: str
    """torch, compile, openvino or onnx."""
    precision: Precision
    features: Features
    version: str
    """Version of the library that computes."""
    batch_size: int
    """Number of images that it computes most efficiently at once."""


def runtime_forward(runtime: Runtime, classifier: Classifier) -> Forward:
    """Return the forward pass of a classifier whose features a runtime computes.

    Torch computes the head in fp32, because it carries temperature, priors and masked classes.
    """

    def forward(inputs: Tensor) -> Output:
        features = runtime.features(inputs)
        return Output(features, classifier.head(features))

    return forward


def batch_size_for(shape: Sequence[int], device: torch.device, at_most: int = 64) -> int:
    """Return the number of rows of a shape that eager torch computes most efficiently at once."""
    if device.type == "cpu" and len(shape) == 3:
        return max(1, min(at_most, PIXELS_AT_ONCE // (shape[0] * shape[1])))
    return at_most


@torch.inference_mode()
def forward_batches(
    forward: Forward,
    batches: Iterable[Tensor],
    preprocessing: ImagePreprocessing,
    device: torch.device,
) -> Iterator[tuple[Tensor, ...]]:
    """Run batches through a network, in order.

    Args:
        forward: The network.
        batches: Pixels (B, H, W, 3) uint8, which are preprocessed; or inputs of the network, which
            are used as they are: normalized images (B, 3, H, W) or features (B, d).
        preprocessing: Preprocessing of pixels. If its `flips` is set, the outputs of pixels are
            means over the image, its two mirror images and its rotation by 180 degrees.
        device: Device of the network.

    Yields:
        The outputs of each batch, on the device.
    """
    for batch in batches:
        inputs = batch.to(device)
        is_pixels = inputs.dtype == torch.uint8
        if is_pixels:
            inputs = preprocess(inputs, preprocessing)
        flips = FLIPS if is_pixels and preprocessing.flips else FLIPS[:1]
        views = [forward(inputs.flip(axes)) for axes in flips]
        yield tuple(torch.stack(outputs).mean(0) for outputs in zip(*views, strict=True))


@torch.inference_mode()
def predict(
    classifier: Classifier,
    table: Table,
    treatment: ImagePreprocessing,
    accelerator: "Accelerator",
    batch_size: int = 64,
    report: Report = without_progress_bars,
    runtime: Runtime | None = None,
) -> Predictions:
    """Predict every row of a table in fp32.

    The classifier keeps its training or evaluation mode.

    Args:
        classifier: The classifier.
        table: N images or feature rows.
        treatment: Preprocessing of the domain's images; see `forward_batches`.
        accelerator: Distributes the rows over processes.
        batch_size: Rows per forward pass; smaller for large images on a CPU.
        report: Called with the number of rows done, and the total; first with none done.
        runtime: Computes the features of images, in batches of its own size; None is eager torch.

    Returns:
        Predictions of all N rows, identical on every process.
    """
    if not len(table):
        return _no_predictions(classifier)
    was_training = classifier.training
    classifier.eval()
    world, rank = accelerator.num_processes, accelerator.process_index
    num_each = -(-len(table) // world)
    rows = np.minimum(np.arange(num_each) * world + rank, len(table) - 1)
    forward: Forward = classifier
    if runtime is None:
        batch_size = batch_size_for(table.shape, accelerator.device, batch_size)
    else:
        forward, batch_size = runtime_forward(runtime, classifier), runtime.batch_size
    starts = range(0, num_each, batch_size)
    batches = (table.batch(rows[start : start + batch_size]) for start in starts)
    outputs = []
    report(0, num_each)
    for start, output in zip(
        starts, forward_batches(forward, batches, treatment, accelerator.device), strict=True
    ):
        outputs.append(output)
        report(min(start + batch_size, num_each), num_each)
    classifier.train(was_training)
    features, logits = (
        accelerator.gather(torch.cat(parts))
        .view(world, num_each, -1)
        .transpose(0, 1)
        .flatten(0, 1)[: len(table)]
        .cpu()
        .numpy()
        for parts in zip(*outputs, strict=True)
    )
    return Predictions(logits, features)


def _no_predictions(classifier: Classifier) -> Predictions:
    """Return the predictions of no rows."""
    shapes = (0, classifier.head.out_features), (0, classifier.head.in_features)
    logits, features = (np.empty(shape, np.float32) for shape in shapes)
    return Predictions(logits, features)
