"""Benchmark sides that take turns in one process, and the training loop as such a side.

Other load on the machine slows both sides alike. A ratio is the median over pairs of consecutive
turns, and the starting side alternates.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hf_wbc.adaptation import TrainingInfo, load_method
from hf_wbc.config import TrainConfig
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.data.loader import BatchLoader, LoaderConfig
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.table import Table
from hf_wbc.engine.loop import MetricAccumulator, Phase, optimize, prepare_phase
from hf_wbc.models import Classifier
from hf_wbc.taxonomy import NUM_CLASSES

if TYPE_CHECKING:
    from accelerate import Accelerator

Steps = Iterator[None]
"""Each `next` is one step."""
Side = Iterator[float]
"""Each `next` is one turn and returns its duration in seconds."""
Batches = Callable[[int, int], Batch | TargetBatch]
"""Returns the batch of a step and forward pass, as a phase does."""
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Clocks: wall time, or CPU time of this process (for busy machines without GPU or workers)."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WARM_UP = 2


@dataclass(frozen=True)
class Pairs:
    """Durations of both sides' turns in seconds."""

    base: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """Return the median of each side."""
        return statistics.median(self.base), statistics.median(self.other)

    @property
    def ratios(self) -> list[float]:
        """Return the other side's time divided by the base's, in ascending order."""
        return sorted(b / a for a, b in zip(self.base, self.other, strict=True))

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def take_turns(base: Side, other: Side, num_pairs: int) -> Pairs:
    """Time `num_pairs` turns of each side after a warm-up."""
    seconds: tuple[list[float], list[float]] = [], []
    for pair in range(num_pairs + _WARM_UP):
        turns = [(base, seconds[0]), (other, seconds[1])]
        for side, times in turns[:: -1 if pair % 2 else 1]:
            times.append(next(side))
    return Pairs(tuple(seconds[0][_WARM_UP:]), tuple(seconds[1][_WARM_UP:]))


def timed(steps: Steps, num: int = 1, clock: Clock = time.perf_counter) -> Side:
    """Yield turns of `num` steps."""
    while True:
        start = clock()
        for _ in range(num):
            next(steps)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        yield clock() - start


def loop_steps(
    classifier: Classifier,
    config: TrainConfig,
    batches: Batches,
    accelerator: "Accelerator",
    state: Mapping[str, Tensor] | None = None,
) -> Steps:
    """Run the training loop's own steps, as `hf-wbc train` does between two evaluations.

    `state` holds initial weights for the whole method.
    """
    method = make_method(classifier, config)
    if state is not None:
        method.load_state_dict(state)
    method.to(accelerator.device)
    phase = Phase("fit", 0, 0, config.optim.steps, config.optim.learning_rate, batches)
    prepared, optimizer = prepare_phase(
        method, phase, config.optim.weight_decay, config.optim.layer_decay, accelerator
    )
    window = MetricAccumulator(accelerator)
    for _, terms in optimize(prepared, optimizer, phase, None, config, accelerator):
        window.add(terms)
        yield


def make_method(classifier: Classifier, config: TrainConfig) -> Any:
    """Build the configured method around a classifier, with one source of balanced classes."""
    kind = load_method(config.adapt.method)
    method = kind(classifier, kind.parse(config.adapt.method_options))
    counts = torch.full((1, NUM_CLASSES), 100)
    torch.manual_seed(config.seed)
    method.setup(TrainingInfo(config.optim.steps, ("source",), counts, num_target=1100))
    return method


def table_batches(
    config: TrainConfig, source: Table, target: Table | None, device: torch.device
) -> Batches:
    """Return batches of in-memory pixels, augmented and normalized as in training."""
    names = {name for table in (source, target) if table for name in table.domain_names}
    stream = BatchLoader(
        source,
        target,
        LoaderConfig(
            batch_size=config.optim.batch_size,
            num_steps=config.optim.steps,
            augmentation=config.data.augmentation,
            strong_views=load_method(config.adapt.method).needs.strong,
            device=device,
        ),
        preprocessing=dict.fromkeys(names, ImagePreprocessing(MEAN, STD)),
    )
    return stream.batch


def drawn_table(size: int, num: int = 256, name: str = "source") -> Table:
    """Return random pixels; the image content does not affect the timing."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (num, size, size, 3), dtype=np.uint8)
    return table_of(pixels, np.arange(num) % NUM_CLASSES, name)


def table_of(pixels: np.ndarray, labels: np.ndarray, name: str) -> Table:
    """Wrap pixels (N, H, H, 3) and labels (N,) as one domain."""
    num = len(pixels)
    return Table((pixels,), labels, np.zeros(num, np.int64), list(map(str, range(num))), (name,))
