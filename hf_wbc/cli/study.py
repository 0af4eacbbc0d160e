"""`hf-wbc study STUDY`: execute a grid of runs, resuming after any interruption."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain

JOBS_AT_ONCE = 16
"""SLURM jobs that run at a time, unless --workers says otherwise."""
TOY = "toy"
"""The predefined study that draws its own data."""


def study(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")],
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    out: KeptFolder = Path("runs"),
    cache: KeptFolder = Path("build/features"),
    dry_run: bool = False,
    retry: bool = False,
    workers: int | None = None,
    threads: int = 1,
    launch: tuple[str, ...] | None = None,
    slurm: tuple[str, ...] | None = None,
) -> int:
    """Execute a grid of runs; repeat the command to resume.

    Example: hf-wbc study acevedo_to_matek --set methods=dann,coral seeds=0,1 --dry-run

    A study is a Python file with a function `study(...) -> list[TrainConfig]`, or a predefined one:
    acevedo_to_matek, matek_to_acevedo, acevedo_matek_to_others, leave_one_out, laboratories,
    ceilings, toy (which draws its own data). The exit status is 1 if a run failed.

    Args:
        name: A .py file, or the name of a predefined study.
        settings: Parameters of the study's function, as NAME=VALUE; separate list items by commas.
        out: Folder for the run folders; finished runs are not repeated.
        cache: Folder for extracted features.
        dry_run: Only list the runs with their state and the estimated time.
        retry: Retry runs that failed before.
        workers: Number of runs at a time; if omitted, one per GPU, or per core without a GPU.
        threads: Number of CPU threads per run.
        launch: Start each run with `accelerate launch` and, say, multi_gpu num_processes=4.
        slurm: Submit the runs to SLURM as an array job with these options of sbatch, such as
            partition=gpu time=120; --workers limits how many run at a time.
    """
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.cli.study_display import StudyDisplay, print_ending, print_plan
    from hf_wbc.study.grid import load_grid
    from hf_wbc.study.plan import CostEstimator, describe_estimate, plan, read_records
    from hf_wbc.study.progress import StudyProgress
    from hf_wbc.study.task import LOG_FOLDER, make_tasks, parse_launch, pending_tasks

    configs = load_grid(name, settings)
    arguments, num_processes = parse_launch(launch)
    start, num_workers = _choose_runner(workers, threads, launch is not None, slurm)
    if name == TOY:
        _make_toys(settings, dry_run)
    with stage_progress() as report:
        runs = plan(configs, out, cache, num_processes, partial(report, "plan"))
    measured, left = CostEstimator(read_records(out)), pending_tasks(runs, retry)
    estimates = [measured.estimate(run) for run in left]
    progress = StudyProgress(runs, left, estimates, num_workers)
    if dry_run:
        print_plan(runs, [measured.estimate(run) for run in runs])
        for line in describe_estimate(left, estimates, num_workers):
            print_plain(line)
    else:
        tasks = make_tasks(runs, left, cache, arguments)
        with _explain_interrupt(slurm), StudyDisplay(progress) as display:
            start(tasks, logs=out / LOG_FOLDER, watch=display.on_event)
    print_ending(out, progress)
    return 0 if dry_run or progress.num_finished == progress.num_runs else 1


def _choose_runner(
    workers: int | None, threads: int, launched: bool, slurm: Sequence[str] | None
) -> tuple[Callable[..., Any], int]:
    """Return the function that runs tasks, here or on SLURM, and how many it runs at a time."""
    from hf_wbc.study.runner import MachineResources, detect_machine, run_tasks
    from hf_wbc.study.slurm import parse_options, run_on_slurm

    if slurm is None:
        machine = detect_machine(workers, threads, launched=launched)
        return partial(run_tasks, machine=machine), machine.num_workers
    machine = MachineResources(workers or JOBS_AT_ONCE, threads)
    options = parse_options(slurm)
    return partial(run_on_slurm, machine=machine, options=options), machine.num_workers


@contextmanager
def _explain_interrupt(slurm: Sequence[str] | None) -> Iterator[None]:
    """After Ctrl-C, say that jobs on SLURM continue."""
    try:
        yield
    except KeyboardInterrupt:
        if slurm is not None:
            print("the jobs continue; repeat the command to watch them, or end them with scancel")
        raise


def _make_toys(settings: Sequence[str], dry_run: bool) -> None:
    """Draw the data of the toy study if it does not exist.

    Raises:
        ValueError: In a dry run, if the data does not exist.
    """
    from hf_wbc.cli.toy import make_toy_study
    from hf_wbc.study.grid import parse_settings
    from hf_wbc.study.protocols import TOY_BACKBONE, TOY_DATA, TOY_DOMAINS, toy

    data = Path(parse_settings(toy, settings).get("data", TOY_DATA))
    if not dry_run:
        make_toy_study(data, TOY_DOMAINS, TOY_BACKBONE)
    elif not (data / "data").is_dir():
        raise ValueError(f"{data} is not drawn yet; leave out --dry-run")
