"""Checkpoints of a run: one folder per step, written atomically, without pickled files.

state.safetensors  weights and buffers of the method, optimizer state, averaged weights
best.safetensors   classifier weights at the best evaluation so far
progress.json      step, best score and elapsed time
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from hf_wbc.records import atomic_replace, read_json, remove, write_json

STATE = "state.safetensors"
BEST = "best.safetensors"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """How far a run has progressed."""

    step: int = 0
    """Optimizer steps completed, counted across phases."""
    phase: int = 0
    """The current phase: 0, or 1 for the second one."""
    num_steps: int = 0
    """Steps actually taken: fewer than `step` if the first phase stopped early."""
    best_score: float | None = None
    """The selection rule's score at the best evaluation."""
    best_step: int = 0
    num_worse: int = 0
    """Evaluations since the best one."""
    train_s: float = 0.0
    """Seconds spent in training steps, across resumptions."""
    elapsed_s: float = 0.0
    """Seconds spent in training steps and evaluations, across resumptions."""
    peak_memory_bytes: int = 0
    """Peak memory of the main process, across resumptions."""
    scaler: dict[str, Any] | None = None
    """State of the fp16 loss scaler."""

    def entering(self, phase: int, first: int) -> "Progress":
        """Return the progress at the start of another phase, which has its own best evaluation."""
        return replace(self, phase=phase, step=first, best_score=None, best_step=0, num_worse=0)

    def after(self, step: int, score: float) -> "Progress":
        """Return the progress after an evaluation; ties keep the earlier step as the best."""
        if self.best_score is None or score > self.best_score:
            return replace(self, step=step, best_score=score, best_step=step, num_worse=0)
        return replace(self, step=step, num_worse=self.num_worse + 1)


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """Return an optimizer's state as tensors with flat names, `INDEX.key`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state.items()
        for key, value in values.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state from `optimizer_tensors`; learning rates do not change."""
    state: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:  # fused steps need the strides of the parameter
                values[key] = torch.empty_like(parameter).copy_(value)


def save_checkpoint(
    folder: Path, state: Mapping[str, Tensors], best: Tensors | None, progress: Progress
) -> None:
    """Write `folder/STEP`, then delete older checkpoints.

    Args:
        folder: Folder of the run's checkpoints.
        state: Tensors by part and name.
        best: Classifier weights, if this evaluation is the best one; None keeps the previous ones.
        progress: Progress at this step.

    Raises:
        OSError: If the checkpoint cannot be written.
    """
    older = list(folder.iterdir()) if folder.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_replace(folder / f"{progress.step:08d}") as temporary:
        temporary.mkdir()
        flat = {f"{part}/{name}": t for part in state for name, t in state[part].items()}
        _save(temporary / STATE, flat)
        if best is None:
            shutil.copyfile(_newest(folder) / BEST, temporary / BEST)
        else:
            _save(temporary / BEST, best)
        write_json(temporary / "progress.json", asdict(progress))
    for path in older:
        remove(path)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensors], Progress] | None:
    """Load the newest checkpoint: tensors by part and name, and the progress.

    Returns:
        None if there is no checkpoint.

    Raises:
        ValueError: If a file is damaged.
        KeyError: If another version of hf_wbc wrote the checkpoint.
        TypeError: Likewise.
    """
    if not (folder.exists() and _finished(folder)):
        return None
    newest = _newest(folder)
    progress = Progress(**read_json(newest / "progress.json", f"delete {folder}"))
    state: dict[str, Tensors] = {}
    for name, tensor in _load(newest / STATE).items():
        part, _, rest = name.partition("/")
        state.setdefault(part, {})[rest] = tensor
    return state, progress


def load_best(folder: Path) -> Tensors:
    """Load the classifier weights of the best evaluation."""
    return _load(_newest(folder) / BEST)


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.isdecimal())


def _newest(folder: Path) -> Path:
    return _finished(folder)[-1]


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _load(path: Path) -> Tensors:
    try:
        return load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete {path.parent.parent}") from error
