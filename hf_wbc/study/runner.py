"""Run a study's tasks on this machine: a queue and a pool of warm workers.

If the system kills a worker, only its run is lost, and another worker replaces it. Runs that
another process is currently writing, perhaps for the same study, are retried later.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from hf_wbc.data.parallel import num_cores
from hf_wbc.records import RunFolder, remove
from hf_wbc.study.task import Outcome, Task, keep_failure
from hf_wbc.study.worker import Worker, WorkerEnvironment

RETRY_S = 2.0
"""Seconds until a busy run is retried."""
REFRESH_S = 0.5
"""Maximum seconds between two calls of the watcher, so that displayed times advance."""


@dataclass(frozen=True)
class Event:
    """An event of the task with that number; `tick` means that only time has passed.

    A task that `waits` is queued again.
    """

    kind: Literal["started", "step", "waits", "ended", "tick"]
    number: int = -1
    step: int = 0
    outcome: Outcome | None = None


@dataclass(frozen=True)
class MachineResources:
    """Number of workers, and the threads and GPUs of each."""

    num_workers: int
    threads: int = 1
    devices: tuple[str, ...] = ()
    """GPUs, assigned to workers round-robin; if empty, every worker sees all GPUs."""


@dataclass
class _Queue:
    """Numbers of waiting tasks; those in `later` wait until a given time."""

    waiting: deque[int]
    later: list[tuple[float, int]] = field(default_factory=list)

    def next(self) -> int | None:
        now = time.monotonic()
        due = [number for when, number in self.later if when <= now]
        self.later = [(when, number) for when, number in self.later if when > now]
        self.waiting.extend(due)
        return self.waiting.popleft() if self.waiting else None

    def __bool__(self) -> bool:
        return bool(self.waiting or self.later)


def detect_machine(
    num_workers: int | None = None, threads: int = 1, launched: bool = False
) -> MachineResources:
    """Choose the number of workers: one per GPU, or one per `threads` cores without a GPU.

    Runs that `accelerate launch` distributes over GPUs run one at a time.

    Raises:
        ValueError: If an argument is less than 1.
    """
    import torch

    for name, value in (("workers", num_workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}; give 1 or more")
    if launched:
        return MachineResources(num_workers or 1, threads)
    devices = _devices() if torch.cuda.is_available() else ()
    if devices:
        return MachineResources(num_workers or len(devices), threads, devices)
    if torch.accelerator.is_available():
        return MachineResources(num_workers or 1, threads)
    return MachineResources(num_workers or max(1, num_cores() // threads), threads)


def run_tasks(
    tasks: Sequence[Task], machine: MachineResources, logs: Path, watch: Callable[[Event], None]
) -> list[Outcome]:
    """Execute all tasks; no worker survives this call, even after an error or Ctrl-C.

    Args:
        tasks: The tasks.
        machine: Number of workers, threads and GPUs.
        logs: Folder for the workers' output.
        watch: Called with every event.

    Returns:
        The outcome of each task, in order.
    """
    outcomes: dict[int, Outcome] = {}
    queue = _Queue(deque(range(len(tasks))))
    busy: dict[int, tuple[Worker, int]] = {}
    """Worker and task number, by the worker's slot."""
    idle: dict[int, Worker] = {}
    try:
        while queue or busy:
            _assign(queue, busy, idle, tasks, machine, logs, watch)
            for slot in _ready_slots(busy):
                worker, number = busy[slot]
                message = worker.receive()
                if message and message[0] == "row":
                    watch(Event("step", number, message[1]["step"]))
                    continue
                del busy[slot]
                outcome = message[1] if message else _end_dead_worker(worker, tasks[number])
                if message and outcome.ending != "failed":
                    idle[slot] = worker
                elif message:
                    worker.end()
                if outcome.ending == "busy":
                    queue.later.append((time.monotonic() + RETRY_S, number))
                else:
                    outcomes[number] = outcome
                    if outcome.ending == "finished":
                        remove(tasks[number].log)
                watch(Event("ended", number, outcome=outcome))
            watch(Event("tick"))
    finally:
        for worker in idle.values():
            worker.leave()
        for worker in [*idle.values(), *(worker for worker, _ in busy.values())]:
            worker.end()
        for log in logs.glob("worker-*.log"):
            if not log.stat().st_size:
                remove(log)
    return [outcomes[number] for number in range(len(tasks))]


def _assign(
    queue: _Queue,
    busy: dict[int, tuple[Worker, int]],
    idle: dict[int, Worker],
    tasks: Sequence[Task],
    machine: MachineResources,
    logs: Path,
    watch: Callable[[Event], None],
) -> None:
    """Assign the next task to every free slot, starting a worker where there is none."""
    for slot in range(machine.num_workers):
        if slot in busy or (number := queue.next()) is None:
            continue
        worker = idle.pop(slot, None)
        if worker is not None and not worker.process.is_alive():
            worker.end()
            worker = None
        remove(RunFolder(tasks[number].folder).failure)
        worker = worker or Worker(_environment(machine, slot, logs))
        worker.give(tasks[number])
        busy[slot] = (worker, number)
        watch(Event("started", number))


def _environment(machine: MachineResources, slot: int, logs: Path) -> WorkerEnvironment:
    devices = machine.devices
    device = devices[slot % len(devices)] if devices else None
    return WorkerEnvironment(machine.threads, device, logs / f"worker-{slot}.log")


def _ready_slots(busy: dict[int, tuple[Worker, int]]) -> list[int]:
    """Return the slots of workers that sent a message or died; empty after a timeout."""
    slots: dict[Any, int] = {}
    for slot, (worker, _) in busy.items():
        slots |= {worker.connection: slot, worker.process.sentinel: slot}
    if not slots:
        time.sleep(REFRESH_S)
        return []
    ready = {slots[each] for each in wait(list(slots), REFRESH_S)}
    return sorted(ready)


def _end_dead_worker(worker: Worker, task: Task) -> Outcome:
    """Return the outcome of a task whose worker died, and end the worker's child processes."""
    code = worker.end()
    if RunFolder(task.folder).finished:  # it died after the record, before the answer
        return Outcome("finished")
    if code < 0:
        what = f"its process was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            what += ", perhaps because memory ran out"
        keep_failure(task, what, killed=True)
        return Outcome("killed", what)
    what = f"its process ended with status {code} without an error message"
    keep_failure(task, what)
    return Outcome("failed", what)


def _devices() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as named in CUDA_VISIBLE_DEVICES."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = tuple(name.strip() for name in named.split(",") if name.strip())
    return names or tuple(map(str, range(torch.cuda.device_count())))
