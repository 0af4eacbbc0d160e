"""What a result was computed on and with: part of every record."""

import contextlib
import importlib.metadata
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "hf_wbc", "torch", "torchvision", "transformers", "datasets", "accelerate", "pillow", "numpy"
)  # fmt: skip


def packages() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def machine(device: torch.device, num_processes: int) -> dict[str, Any]:
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
