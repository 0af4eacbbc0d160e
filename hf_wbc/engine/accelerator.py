"""One accelerate `Accelerator`, with the faults that a launch can have turned into errors."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(
    precision: str = "fp32", trackers: Sequence[str] = (), logs: Path | None = None
) -> "Accelerator":
    """The accelerator of this process.

    ValueError when a tracker is not installed, when the launch started fewer processes than it
    was told to, or when the device has no such precision.
    """
    from accelerate import Accelerator

    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(f"{tracker} is not installed; pip install 'hf_wbc[track]'")
    accelerator = Accelerator(
        mixed_precision=MIXED_PRECISION[precision],
        log_with=list(trackers) or None,
        project_dir=logs,
        step_scheduler_with_optimizer=False,
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"{launched} processes were launched, but they do not work together; on a CPU use "
            f"torchrun --nproc-per-node {launched} train.py ..."
        )
    return accelerator
