"""Warm workers execute every run; a failure or a killed process affects only one run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder, read_json
from hf_wbc.study.plan import Estimate, plan
from hf_wbc.study.progress import StudyProgress
from hf_wbc.study.runner import Event, MachineResources, detect_machine, run_tasks
from hf_wbc.study.task import LOG_FOLDER, Outcome, Task, make_task

HOLD = """
import sys, time
from pathlib import Path
from hf_wbc.file_lock import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""
"""Locks a file, as the run of another study does."""
ONE = MachineResources(num_workers=1)
pytestmark = pytest.mark.usefixtures("forked")


def tasks_of(configs: list[TrainConfig], root: Path) -> list[Task]:
    return [make_task(run, root / "features") for run in plan(configs, root, root / "features")]


def ignore(event: Event) -> None:
    pass


@pytest.mark.slow
@pytest.mark.ci
def test_failed_run_keeps_its_traceback_and_others_finish(
    short: TrainConfig,
    failing: TrainConfig,
    tmp_path: Path,
    assert_same_run: Callable[[RunFolder, RunFolder], None],
    workers: Callable[[], list[psutil.Process]],
) -> None:
    configs = [short, failing, short.replace(seed=1)]
    tasks = tasks_of(configs, tmp_path)
    events: list[Event] = []
    outcomes = run_tasks(tasks, ONE, tmp_path / LOG_FOLDER, events.append)
    assert [outcome.ending for outcome in outcomes] == ["finished", "failed", "finished"]
    failure = read_json(RunFolder(tasks[1].folder).failure)
    assert failure["what"] == outcomes[1].reason and "loss" in failure["what"]
    assert "Traceback" in failure["traceback"] and not failure["killed"]
    for config, task in zip((configs[0], configs[2]), (tasks[0], tasks[2]), strict=True):
        bare = run(config, tmp_path / "bare", tmp_path / "features")
        assert_same_run(bare, RunFolder(task.folder))
    started = [event.number for event in events if event.kind == "started"]
    assert started == [0, 1, 2]
    assert {event.number for event in events if event.kind == "step"} >= {0, 2}
    assert not workers()


@pytest.mark.slow
@pytest.mark.ci
def test_killed_worker_affects_only_its_run_which_then_resumes(
    short: TrainConfig,
    tmp_path: Path,
    assert_same_run: Callable[[RunFolder, RunFolder], None],
    workers: Callable[[], list[psutil.Process]],
) -> None:
    long = short.replace(steps=60)
    tasks = tasks_of([long, short.replace(seed=1)], tmp_path)

    def kill(event: Event) -> None:
        if event.kind == "step" and event.number == 0 and event.step >= 2:
            (worker,) = workers()
            os.kill(worker.pid, signal.SIGKILL)

    outcomes = run_tasks(tasks, ONE, tmp_path / LOG_FOLDER, kill)
    assert [outcome.ending for outcome in outcomes] == ["killed", "finished"]
    assert "SIGKILL" in outcomes[0].reason and "memory" in outcomes[0].reason
    assert read_json(RunFolder(tasks[0].folder).failure)["killed"]
    assert not workers()
    again = run(long, tmp_path, tmp_path / "features")
    assert not again.failure.exists()
    assert_same_run(run(long, tmp_path / "whole", tmp_path / "features"), again)


def test_error_in_event_callback_leaves_no_worker(
    short: TrainConfig, tmp_path: Path, workers: Callable[[], list[psutil.Process]]
) -> None:
    def stop(event: Event) -> None:
        if event.kind == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks_of([short.replace(steps=500)], tmp_path), ONE, tmp_path / LOG_FOLDER, stop)
    assert not workers()


@pytest.mark.slow
@pytest.mark.ci
def test_study_waits_for_run_written_by_another_process(short: TrainConfig, tmp_path: Path) -> None:
    (task,) = tasks_of([short], tmp_path)
    folder = RunFolder(task.folder)
    with folder.writing(task.config, task.identity):
        pass
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.lock)], stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() and folder.is_busy
    endings = []

    def watch(event: Event) -> None:
        if event.outcome:
            endings.append(event.outcome.ending)
            if event.outcome.ending == "busy":
                other.kill()
                other.wait()

    (outcome,) = run_tasks([task], ONE, tmp_path / LOG_FOLDER, watch)
    assert endings == ["busy", "finished"] and outcome == Outcome("finished")


@pytest.mark.slow  # test_run_processes.py covers runs that accelerate launches
@pytest.mark.ci
def test_runs_through_accelerate_are_identical(
    short: TrainConfig, tmp_path: Path, assert_same_run: Callable[[RunFolder, RunFolder], None]
) -> None:
    (planned,) = plan([short], tmp_path, tmp_path / "features")
    task = make_task(planned, tmp_path / "features", ("--cpu", "--num_processes=1"))
    assert run_tasks([task], ONE, tmp_path / LOG_FOLDER, ignore) == [Outcome("finished")]
    bare = run(short, tmp_path / "bare", tmp_path / "features")
    assert_same_run(bare, RunFolder(task.folder))


def test_detect_machine_divides_cores_among_workers() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert detect_machine(3, 1).num_workers == 3
    assert detect_machine(launched=True).num_workers == 1
    assert detect_machine(threads=1000).num_workers == 1
    if not detect_machine().devices:
        assert detect_machine().num_workers == cores
    with pytest.raises(ValueError, match="--workers is 0"):
        detect_machine(0)


def test_remaining_time_follows_completed_work(
    short: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("hf_wbc.study.progress.time.monotonic", lambda: clock[0])
    runs = plan([short.replace(steps=100, seed=s) for s in range(4)], tmp_path, tmp_path)
    progress = StudyProgress(runs, runs, [Estimate(50.0, "method")] * 4, 2)
    assert progress.remaining_s() == 100
    progress.update(Event("started", 0))
    progress.update(Event("step", 0, step=20))  # it resumes there
    clock[0] = 10.0
    progress.update(Event("step", 0, step=40))
    assert progress.remaining_s() == pytest.approx(10 * (0.6 + 3) / 0.2)
    progress.update(Event("ended", 0, outcome=Outcome("failed", "why")))
    progress.update(Event("started", 1))
    clock[0] = 20.0
    progress.update(Event("ended", 1, outcome=Outcome("finished")))
    assert progress.remaining_s() == pytest.approx(20 * 2 / 1)
    assert (progress.num_finished, progress.num_over) == (1, 2)
    assert [(word, why) for word, _, why in progress.troubles()] == [("failed", "why")]


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """Return the live worker processes that the test has started."""
    others = {*psutil.Process().children()}  # from earlier tests: a browser, a server

    def living() -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children():
            try:
                words = " ".join(child.cmdline())
                if "resource_tracker" not in words and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return [child for child in found if child not in others]

    return living


@pytest.mark.slow
@pytest.mark.ci
def test_worker_decodes_many_images_in_subprocesses(
    short: TrainConfig,
    make_domain: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hf_wbc.data.pixel_cache._ROWS_PER_PROCESS", 4)
    monkeypatch.setattr("hf_wbc.data.pixel_cache.num_cores", lambda: 2)
    new = str(make_domain(tmp_path / "new", name="new", seed=3))
    tasks = tasks_of([short.replace(sources=(new,))], tmp_path)
    (outcome,) = run_tasks(tasks, ONE, tmp_path / LOG_FOLDER, ignore)
    assert outcome.ending == "finished", outcome.reason
