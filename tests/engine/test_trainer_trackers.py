"""The curves sent to trackers match the run's history, offline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run


def curve(rows: list[dict[str, dict[str, dict[str, float]]]]) -> list[float]:
    return [row["source_val"]["home"]["macro_f1"] for row in rows]


def test_tensorboard_logs_match_history(config: TrainConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra hf_wbc[track]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(config, tmp_path / "runs", tmp_path / "cache", trackers=["tensorboard"])
    (events,) = folder.path.glob("hf_wbc/events.*")
    written = EventAccumulator(str(events)).Reload()
    points = written.Scalars("source_val/home/macro_f1")
    assert [point.step for point in points] == [2, 4, 6]
    assert [point.value for point in points] == pytest.approx(curve(folder.read_history()))
    assert {"loss/loss", "selection/source_val"} <= set(written.Tags()["scalars"])


@pytest.mark.slow  # trackio takes seconds to import in a fresh process
@pytest.mark.ci
def test_trackio_logs_match_history(config: TrainConfig, tmp_path: Path) -> None:
    """Use a separate process: trackio fixes its output folder on import."""
    pytest.importorskip("trackio", reason="needs the extra hf_wbc[track]")
    words = f"--sources {config.data.sources[0]} --model {config.model.name}".split()
    words += ["--output-dir", f"{tmp_path}/runs"]
    more = ["--steps", "2", "--eval-steps", "1", "--batch-size", "4", "--trackers", "trackio"]
    code = (
        "import sys; from hf_wbc.cli.main import main\n"
        f"assert main({['train', *words, *more]!r}) == 0\n"
        "import trackio.sqlite_storage as storage\n"
        "from pathlib import Path\n"
        "from hf_wbc.records import RunFolder\n"
        f"(path,) = Path({str(tmp_path)!r}, 'runs').iterdir()\n"
        "logged = storage.SQLiteStorage.get_logs('hf_wbc', path.name)\n"
        "rows = RunFolder(path).read_history()\n"
        "key = 'source_val/home/macro_f1'\n"
        "assert [row[key] for row in logged] == "
        "[row['source_val']['home']['macro_f1'] for row in rows], logged\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Reserved keys" not in done.stderr
