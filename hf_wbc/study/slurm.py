"""Run a study's tasks on a SLURM cluster: an array job with one job per run, through submitit.

A job that is preempted or reaches its time limit is queued again and resumes from its last
evaluation. Jobs continue when the submitting process exits; starting the same study again finds
the jobs that are still queued.
"""

import getpass
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.records import RunFolder, read_json, remove, write_json
from hf_wbc.study.runner import Event, MachineResources
from hf_wbc.study.task import Outcome, Task, keep_failure

POLL_S = 5.0
MISSING = 3
"""Number of consecutive polls without a job in the queue until it counts as ended."""
TIME_MIN = 240
"""Default time limit of a job in minutes; a longer job is queued again."""
MAX_TIMEOUTS = 100
BUSY_S = 5.0
SUBMITTED, JOBS = "slurm", "slurm.json"
"""Beside the runs' output: the folder of submitit, and the file with the job of each run."""


@dataclass(frozen=True)
class Job:
    """A job that SLURM starts; once requeued, it executes the task again from the beginning.

    submitit handles signals only after it has unpickled the job; until then they end it.
    """

    task: Task
    threads: int

    def __call__(self) -> str:
        """Execute the task.

        Raises:
            RuntimeError: If the task failed, so that SLURM marks the job as failed.
        """
        import torch

        from hf_wbc.study.execute import execute_task

        torch.set_num_threads(self.threads)
        remove(RunFolder(self.task.folder).failure)
        outcome = execute_task(self.task, lambda row: None)
        while outcome.ending == "busy":  # the preempted process may still be exiting
            time.sleep(BUSY_S)
            outcome = execute_task(self.task, lambda row: None)
        if outcome.ending != "finished":
            raise RuntimeError(outcome.reason)
        return outcome.ending

    def checkpoint(self) -> Any:
        """Return the job to queue again; called by submitit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint
    """The method's name in the next version of submitit."""


def run_on_slurm(
    tasks: Sequence[Task],
    machine: MachineResources,
    logs: Path,
    watch: Callable[[Event], None],
    options: Mapping[str, Any],
) -> list[Outcome]:
    """Submit the tasks that are not queued yet, and wait for all tasks.

    Args:
        tasks: The tasks.
        machine: Threads of each job, and the number of jobs at a time.
        logs: Folder for the output of the jobs.
        watch: Called with every event.
        options: Options of sbatch.

    Returns:
        The outcome of each task, in order.

    Raises:
        ValueError: If SLURM or submitit is not available, or sbatch rejects the jobs.
    """
    require_slurm()
    known = read_json(logs / JOBS) if (logs / JOBS).exists() else {}
    queued = _queue()
    new = [task for task in tasks if known.get(task.folder.name) not in queued]
    for task in new:
        remove(RunFolder(task.folder).failure)
    ids = _submit(new, machine, logs, options) if new else []
    known |= {task.folder.name: job for task, job in zip(new, ids, strict=True)}
    write_json(logs / JOBS, known)
    return _wait(tasks, [known[task.folder.name] for task in tasks], logs, watch)


def require_slurm() -> None:
    """Require that jobs can be submitted.

    Raises:
        ValueError: If submitit or a SLURM command is missing.
    """
    import importlib.util

    if importlib.util.find_spec("submitit") is None:
        raise ValueError(
            "submitit is not installed; install hf_wbc with its extra: pip install '.[slurm]'"
        )
    for program in ("sbatch", "srun", "squeue"):
        if shutil.which(program) is None:
            raise ValueError(f"{program} was not found; omit --slurm, or use a login node")


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs into sbatch options with submitit's names; the time is in minutes.

    Examples:
        >>> parse_options(["partition=gpu", "time=60", "gpus-per-node=2"])
        {'partition': 'gpu', 'time': 60, 'gpus_per_node': 2}
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise ValueError(f"--slurm {option!r}: write NAME=VALUE, such as partition=gpu")
        found[name.lstrip("-").replace("-", "_")] = int(value) if value.isdecimal() else value
    if not isinstance(found.get("time", 0), int):
        raise ValueError(f"--slurm time={found['time']}: give a whole number of minutes")
    return found


def _submit(
    tasks: Sequence[Task], machine: MachineResources, logs: Path, options: Mapping[str, Any]
) -> list[str]:
    """Submit one array job, and return the id of each task's job."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = SlurmExecutor(logs / SUBMITTED / "%j", max_num_timeout=MAX_TIMEOUTS)
    known = executor._valid_parameters()
    others = {name: value for name, value in options.items() if name not in known}
    executor.update_parameters(
        **{
            "job_name": "hf_wbc",
            "time": TIME_MIN,
            "cpus_per_task": machine.threads,
            "array_parallelism": machine.num_workers,
            **{name: value for name, value in options.items() if name in known},
            **({"additional_parameters": others} if others else {}),
        }
    )
    try:
        with executor.batch():
            jobs = [executor.submit(Job(task, machine.threads)) for task in tasks]
    except (FailedSubmissionError, FailedJobError) as error:
        said = [line for line in str(error).splitlines() if "error" in line.lower()]
        raise ValueError(f"SLURM rejects the jobs: {' '.join(said) or error}") from error
    return [str(job.job_id) for job in jobs]


def _wait(
    tasks: Sequence[Task], ids: Sequence[str], logs: Path, watch: Callable[[Event], None]
) -> list[Outcome]:
    """Poll the queue and the run folders until every run has ended."""
    outcomes: dict[int, Outcome] = {}
    states = dict.fromkeys(range(len(tasks)), "PENDING")
    missed = dict.fromkeys(range(len(tasks)), 0)
    while True:
        queued = _queue()
        for number, (task, job) in enumerate(zip(tasks, ids, strict=True)):
            if number in outcomes:
                continue
            missed[number] = 0 if job in queued else missed[number] + 1
            if RunFolder(task.folder).finished:
                outcomes[number] = Outcome("finished")
            elif missed[number] >= MISSING:
                outcomes[number] = _ended(task, job, logs)
            else:
                _report(watch, number, task, states, queued.get(job, states[number]))
                continue
            watch(Event("ended", number, outcome=outcomes[number]))
        watch(Event("tick"))
        if len(outcomes) == len(tasks):
            return [outcomes[number] for number in range(len(tasks))]
        time.sleep(POLL_S)


def _report(
    watch: Callable[[Event], None], number: int, task: Task, states: dict[int, str], state: str
) -> None:
    """Report changes of a job that is queued or running."""
    if state not in ("PENDING", "RUNNING"):  # in transition
        return
    if state != states[number]:
        watch(Event("started" if state == "RUNNING" else "waits", number))
        states[number] = state
    if state == "RUNNING" and (step := RunFolder(task.folder).last_step()):
        watch(Event("step", number, step))


def _ended(task: Task, job: str, logs: Path) -> Outcome:
    """Return the outcome of an unfinished run whose job is no longer in the queue."""
    failure, log = RunFolder(task.folder).failure, logs / SUBMITTED / job
    if failure.exists():
        return Outcome("failed", str(read_json(failure).get("what", "")))
    what = f"SLURM ended job {job} (canceled, out of memory, or node failure); see {log}"
    keep_failure(task, what, killed=True)
    return Outcome("killed", what)


def _queue() -> dict[str, str]:
    """Return the user's pending and running jobs: state by id, `12_3` for the tasks of an array."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", "--user", getpass.getuser()]
    for _ in range(10):  # slurmctld is briefly unavailable when it is busy or restarts
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode == 0:
            rows = (line.strip().split("|") for line in done.stdout.splitlines() if "|" in line)
            return {job: state for job, state in rows if state != "COMPLETED"}
        time.sleep(POLL_S)
    raise ValueError(f"squeue failed: {done.stderr.strip()}; check that slurmctld is running")
