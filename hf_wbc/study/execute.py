"""Execute one run of a study, in this process or in processes started by `accelerate launch`."""

import json
import subprocess
import sys
import time
import traceback
from typing import IO

from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import reset_peak_memory
from hf_wbc.engine.run import run
from hf_wbc.engine.trainer import OnProgress
from hf_wbc.file_lock import BusyError
from hf_wbc.records import RunFolder
from hf_wbc.study.task import Outcome, Task, keep_failure

POLL_S = 0.5


def execute_task(task: Task, report: OnProgress) -> Outcome:
    """Execute a task; failures are written to the run's folder and returned, not raised."""
    folder = RunFolder(task.folder)
    if not folder.finished and folder.is_busy:
        return Outcome("busy")
    try:
        if task.launch is None:
            reset_peak_memory()
            run(TrainConfig.from_dict(task.config), folder.path.parent, task.features, (), report)
        else:
            _launch(task, report)
    except BusyError:
        return Outcome("busy")
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        what = kind + " ".join(str(error).split())
        keep_failure(task, what, trace=traceback.format_exc())
        return Outcome("failed", what)
    assert folder.finished, f"the run ended without a record in {folder.path}"
    return Outcome("finished")


def _launch(task: Task, report: OnProgress) -> None:
    """Train in processes that accelerate starts; they exit when this process does."""
    assert task.launch is not None
    request = {"config": task.config, "root": str(task.folder.parent), "cache": str(task.features)}
    named = any(word.startswith("--main_process_port") for word in task.launch)
    port = () if named else ("--main_process_port", "0")
    command = [
        sys.executable, "-m", "accelerate.commands.launch", *port, *task.launch,
        "-m", "hf_wbc.study.accelerate_entry", json.dumps(request),
    ]  # fmt: skip
    with task.log.open("a", encoding="utf-8") as log:
        status = _run_command(command, log, RunFolder(task.folder), report)
    if status:
        raise RuntimeError(
            f"accelerate launch {' '.join(task.launch)} ended with status {status}: "
            f"{_last_error(task.log.read_text(encoding='utf-8', errors='replace'))}"
        )


def _run_command(command: list[str], log: IO[str], folder: RunFolder, report: OnProgress) -> int:
    """Run a command until it exits, and report the steps in the run's history.

    Returns:
        The exit status.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
        last = 0
        try:
            while process.poll() is None:
                if (step := folder.last_step()) != last:
                    last = step
                    report({"step": step})
                time.sleep(POLL_S)
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def _last_error(log: str) -> str:
    """Return the last line of a log that looks like an error message."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.partition(":")[0].rstrip().endswith("Error")]
    ours = [line for line in errors if "ChildFailedError" not in line]
    return (ours or lines or ["no output"])[-1]
