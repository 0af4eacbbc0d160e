"""One accelerate `Accelerator`, with the faults that a launch can have turned into errors.

What a result was computed on and with: part of every record."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


PROJECT = "hf_wbc"


def make_accelerator(mixed_precision: str = "no", trackers: Sequence[str] = ()) -> "Accelerator":
    """The accelerator of this process.

    ValueError when a tracker is not installed, when the launch started fewer processes than it
    was told to, or when the device has no such precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(
                f"{tracker} is not installed; install hf_wbc with its extra: pip install '.[track]'"
            )
    has_device = torch.accelerator.is_available()
    if mixed_precision == "fp16" and not has_device:
        raise ValueError(
            "mixed_precision is fp16, which needs a GPU; use --mixed-precision bf16 or no"
        )
    _refuse_lone_process()
    AcceleratorState._reset_state()  # else a second run here must have the first one's precision
    accelerator = Accelerator(
        cpu=not has_device,  # unless told so, processes on a CPU do not look for each other
        mixed_precision=mixed_precision,
        log_with=list(trackers) or None,
        project_dir=".",  # where nothing is written: `start_trackers` knows the folder
        step_scheduler_with_optimizer=False,
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"{launched} processes were launched, and {accelerator.num_processes} works alone; "
            f"start them with torchrun --nproc-per-node {launched} train.py ..."
        )
    return accelerator


def start_trackers(accelerator: "Accelerator", folder: Path, config: Mapping[str, Any]) -> None:
    """Open the trackers that the accelerator was made with, for the run in `folder`.

    Tensorboard writes there; trackio where TRACKIO_DIR says, under the folder's name.
    """
    accelerator.project_configuration.logging_dir = str(folder)
    facts = {"name": folder.name, "config": dict(config), "resume": "allow", "embed": False}
    accelerator.init_trackers(PROJECT, init_kwargs={"trackio": facts})


def _refuse_lone_process() -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process and sets a port for two."""
    launched_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched_by_accelerate and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "accelerate launch was told to start several processes and started one; on a CPU use "
            "torchrun --nproc-per-node NUMBER in its place"
        )


PACKAGES = (
    "hf_wbc", "torch", "torchvision", "transformers", "datasets", "accelerate", "pillow", "numpy"
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def machine_info(device: torch.device, num_processes: int) -> dict[str, Any]:
    """The device, in words, and what lies around it."""
    return {
        "device": _device_name(device),
        "num_processes": num_processes,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def peak_memory_bytes() -> int:
    """Of this process so far; on a GPU what torch held there at most."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB on Linux


def reset_peak_memory() -> None:
    """Forget the peak so far, so that a second run in this process is not told the first one's.

    Linux and CUDA can; elsewhere the peak is that of the process.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # forbidden in some containers
            Path("/proc/self/clear_refs").write_text("5")


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
