"""The same runs are produced on a cluster; skipped without SLURM."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder, read_json
from hf_wbc.study.plan import plan
from hf_wbc.study.runner import Event, MachineResources
from hf_wbc.study.slurm import JOBS, parse_options, require_slurm, run_on_slurm
from hf_wbc.study.task import LOG_FOLDER, make_task


@pytest.fixture
def slurm() -> None:
    """Return a SLURM installation that responds."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    if shutil.which("sinfo") is None:
        pytest.skip("no SLURM on this machine")
    try:
        done = subprocess.run(["sinfo"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        pytest.skip("SLURM does not answer within 20 s")
    if done.returncode:
        pytest.skip(f"SLURM does not answer: {done.stderr.strip().splitlines()[-1]}")


@pytest.mark.usefixtures("slurm")
def test_cluster_runs_match_local_runs(
    short: TrainConfig,
    failing: TrainConfig,
    tmp_path: Path,
    assert_same_run: Callable[[RunFolder, RunFolder], None],
) -> None:
    configs = [short, failing, short.replace(seed=1)]
    runs = plan(configs, tmp_path / "runs", tmp_path / "features")
    tasks = [make_task(each, tmp_path / "features") for each in runs]
    events: list[Event] = []
    logs = tmp_path / "runs" / LOG_FOLDER
    outcomes = run_on_slurm(
        tasks, MachineResources(2), logs, events.append, parse_options(["time=10"])
    )
    assert [outcome.ending for outcome in outcomes] == ["finished", "failed", "finished"]
    assert "loss" in outcomes[1].reason
    jobs = read_json(logs / JOBS)
    assert len({job.partition("_")[0] for job in jobs.values()}) == 1, "one array job"
    for config, task in zip((configs[0], configs[2]), (tasks[0], tasks[2]), strict=True):
        bare = run(config, tmp_path / "bare", tmp_path / "features")
        assert_same_run(bare, RunFolder(task.folder))


@pytest.mark.usefixtures("slurm")
def test_sbatch_rejection_is_reported(short: TrainConfig, tmp_path: Path) -> None:
    (planned,) = plan([short], tmp_path, tmp_path)
    task = make_task(planned, tmp_path)
    with pytest.raises(ValueError, match=r"SLURM rejects the jobs: .*nowhere|invalid partition"):
        run_on_slurm(
            [task], MachineResources(1), tmp_path, lambda event: None, {"partition": "nowhere"}
        )


def test_missing_slurm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="sbatch was not found"):
        require_slurm()


def test_job_module_imports_nothing_heavy() -> None:
    """submitit installs its signal handlers after it reads the job, which imports this module."""
    code = "import sys, hf_wbc.study.slurm; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_launched_process_ends_with_its_parent() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_wbc.study.accelerate_entry", "{}"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, said = process.communicate(timeout=60)  # which closes its standard input
    assert process.returncode == 1
    assert b"Traceback" not in said
