"""Create the accelerate `Accelerator`, and describe the machine and packages for records.

Launch problems that would otherwise fail silently (too few processes, an unsupported precision, a
missing tracker) become errors.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import platform
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_wbc.engine.launch_settings import only_own_settings

if TYPE_CHECKING:
    from accelerate import Accelerator


PROJECT = "hf_wbc"


def make_accelerator(mixed_precision: str = "no", trackers: Sequence[str] = ()) -> "Accelerator":
    """Create the accelerator of this process.

    Args:
        mixed_precision: "no", "bf16" or "fp16".
        trackers: Names of accelerate trackers, such as "tensorboard".

    Raises:
        ValueError: If a tracker is not installed, fewer processes started than were launched, the
            device does not support the precision, or the environment requests DeepSpeed or
            another way of training.
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
    AcceleratorState._reset_state()  # otherwise a second run would keep the first one's precision
    with only_own_settings(mixed_precision):
        accelerator = Accelerator(
            cpu=not has_device,  # required for CPU processes to find each other
            mixed_precision=mixed_precision,
            gradient_accumulation_steps=1,  # `loop.optimize` accumulates
            log_with=list(trackers) or None,
            project_dir=".",  # unused: `start_trackers` sets the folder
            step_scheduler_with_optimizer=False,
            dynamo_backend="no",
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"{launched} processes were launched, but they do not find each other; "
            f"start them with torchrun --nproc-per-node {launched} train.py ..."
        )
    return accelerator


def start_trackers(accelerator: "Accelerator", folder: Path, config: Mapping[str, Any]) -> None:
    """Start the accelerator's trackers for the run in `folder`.

    TensorBoard logs to that folder; trackio logs to TRACKIO_DIR, under the folder's name.
    """
    accelerator.project_configuration.logging_dir = str(folder)
    known = _without_empty(config)
    facts = {"name": folder.name, "config": known, "resume": "allow", "embed": False}
    accelerator.init_trackers(PROJECT, init_kwargs={"trackio": facts})


def _without_empty(config: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty groups, at any depth: trackio cannot export them for a static Space."""
    found = {
        name: _without_empty(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
    }
    return {name: value for name, value in found.items() if value != {}}


@contextlib.contextmanager
def training_alerts(accelerator: "Accelerator") -> Iterator[None]:
    """Send an alert to trackio when the training in this context ends, fails or is interrupted.

    Trackio shows alerts on its dashboard, and posts them to TRACKIO_WEBHOOK_URL if that is set.
    """
    try:
        yield
    except KeyboardInterrupt:
        _alert(accelerator, "Training interrupted", "the same command resumes it", "warn")
        raise
    except Exception as error:
        _alert(accelerator, "Training failed", f"{type(error).__name__}: {error}", "error")
        raise
    _alert(accelerator, "Training finished", "the record is written", "info")


def _alert(accelerator: "Accelerator", title: str, text: str, level: str) -> None:
    """Send an alert from the main process; a tracker other than trackio has none."""
    for tracker in accelerator.trackers:
        if tracker.name == "trackio" and accelerator.is_main_process:
            from trackio import AlertLevel

            tracker.tracker.alert(title, text, AlertLevel(level))
            if level != "info":  # the process may end before trackio sends what it has queued
                tracker.tracker.finish()


def _refuse_lone_process() -> None:
    """Raise an error if accelerate started a single process instead of several.

    `accelerate launch --cpu --num_processes 2` starts one process but sets the port for two.
    """
    launched_by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched_by_accelerate and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "accelerate launch should start several processes but started one; on a CPU use "
            "torchrun --nproc-per-node NUMBER instead"
        )


PACKAGES = (
    "hf_wbc", "torch", "torchvision", "transformers", "datasets", "accelerate", "pillow", "numpy"
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(name: str) -> str:
    """Look up a version; parsing a package's metadata takes milliseconds."""
    return importlib.metadata.version(name)


def machine_info(device: torch.device, num_processes: int) -> dict[str, Any]:
    """Describe the device, the platform and the number of processes."""
    return {
        "device": _device_name(device),
        "num_processes": num_processes,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def peak_memory_bytes() -> int:
    """Return the peak memory of this process in bytes.

    On CUDA this is the peak of allocated GPU memory, elsewhere the peak resident set size.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB on Linux


def reset_peak_memory() -> None:
    """Reset the peak memory, so that a second run in this process does not inherit the first one's.

    This works on CUDA and Linux; on other systems the peak is that of the whole process.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # not permitted in some containers
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _device_name(device: torch.device) -> str:
    """Return the GPU's name, or the CPU architecture with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
