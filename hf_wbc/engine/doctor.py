"""What a machine has for this project, and what to do about what it lacks."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hf_wbc.data.parallel import num_cores

LEAST_DISK_GB = 20
"""A prepared source, its pixels and a few runs."""
PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "accelerate", "evaluate",
    "huggingface-hub",
)  # fmt: skip
EXTRAS = {
    "timm": "timm",
    "peft": "lora",
    "tensorboard": "track",
    "trackio": "track",
    "gradio": "app",
}
CPU_FLAGS = {"amx_bf16": "bf16 fast", "avx512_bf16": "bf16 usable", "avx512f": "", "avx2": ""}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is empty when nothing has to be done."""

    name: str
    value: str
    remedy: str = ""


def examine(work: Path) -> list[Finding]:
    """All findings, for work that is done under the folder `work`."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        lambda: _disk(work),
        _memory,
        _cpu,
        _gpu,
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    remedy = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    yield Finding("python", platform.python_version(), remedy)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", "install hf_wbc anew, as its README says")
    for name, extra in EXTRAS.items():
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, f"not installed (optional: the extra {extra} of hf_wbc)")


def _disk(work: Path) -> Iterator[Finding]:
    from datasets import config

    for name, path, remedy in (
        ("disk for work", work, "work on another disk"),
        ("disk for caches", config.HF_DATASETS_CACHE, "set HF_HOME to a place on another disk"),
    ):
        place = Path(path).expanduser().absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / 1e9
        remedy = "" if free >= LEAST_DISK_GB else f"free {LEAST_DISK_GB} GB, or {remedy}"
        if not os.access(place, os.W_OK):
            remedy = f"make {place} writable, or work in another folder"
        yield Finding(name, f"{free:.0f} GB free in {path}", remedy)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if total >= 4 else "use a smaller --batch-size"
    yield Finding("memory", f"{total:.0f} GiB", remedy)


def _cpu() -> Iterator[Finding]:
    yield Finding("cores", str(num_cores()))
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    found = [name for name in CPU_FLAGS if name in flags]
    notes = [CPU_FLAGS[name] for name in found if CPU_FLAGS[name]]
    note = notes[0] if notes else "bf16 slow: train with --precision fp32"
    yield Finding("CPU features", f"{', '.join(found) or platform.machine()} ({note})")


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        hint = (
            "" if not shutil.which("nvidia-smi") else "install a torch built for your CUDA driver"
        )
        yield Finding("GPU", "none that torch can use", hint)
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use --precision fp16"
        yield Finding(f"GPU {index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {bf16}")
