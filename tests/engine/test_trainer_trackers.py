"""The curves sent to trackers match the run's history, offline."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


class Webhook:
    """A server on the loopback that keeps what is posted to it."""

    def __init__(self) -> None:
        posted: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                posted.append(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing to stderr."""

        self.posted = posted
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Listen for alerts."""
    made = Webhook()
    yield made
    made.server.shutdown()
    made.server.server_close()


def train_in_process(config: TrainConfig, folder: Path, url: str, code: str, *more: str) -> str:
    """Train in a process of its own, as trackio fixes its output folder on import.

    Args:
        config: Its source and model are used.
        folder: Folder of the runs and of trackio.
        url: Where alerts are posted to.
        code: Code to run afterwards, with the exit status in `status`.
        *more: Further options.

    Returns:
        What it wrote on stderr.
    """
    pytest.importorskip("trackio", reason="needs the extra hf_wbc[track]")
    words = f"--sources {config.data.sources[0]} --model {config.model.name}".split()
    words += ["--output-dir", f"{folder}/runs", "--steps", "2", "--eval-steps", "1"]
    words += ["--batch-size", "4", "--trackers", "trackio", *more]
    before = (
        "import sys; from hf_wbc.cli.main import main\n"
        f"status = main({['train', *words]!r})\n"
        "from trackio.sqlite_storage import SQLiteStorage as storage\n"
        "from pathlib import Path\n"
        "from hf_wbc.records import RunFolder\n"
        f"(path,) = Path({str(folder)!r}, 'runs').iterdir()\n"
        "alerts = [(a['level'], a['title']) for a in storage.get_alerts('hf_wbc', path.name)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", before + code],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "TRACKIO_DIR": str(folder / "trackio"),
            "TRACKIO_WEBHOOK_URL": url,
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow  # trackio takes seconds to import in a fresh process
@pytest.mark.ci
def test_trackio_logs_match_history_and_export_as_a_static_space(
    config: TrainConfig, tmp_path: Path, webhook: Webhook
) -> None:
    code = (
        "assert status == 0\n"
        "import pyarrow.parquet as pq\n"
        "key = 'source_val/home/macro_f1'\n"
        "rows = RunFolder(path).read_history()\n"
        "curve = [row['source_val']['home']['macro_f1'] for row in rows]\n"
        "assert [row[key] for row in storage.get_logs('hf_wbc', path.name)] == curve\n"
        "storage.export_for_static_space('hf_wbc', Path('site'))\n"
        "assert pq.read_table('site/metrics.parquet')[key].to_pylist() == curve\n"
        "assert alerts == [('info', 'Training finished')], alerts\n"
    )
    written = train_in_process(
        config, tmp_path, webhook.url, f"import os; os.chdir({str(tmp_path)!r})\n" + code
    )
    assert "Reserved keys" not in written
    assert [each["title"] for each in webhook.posted] == ["Training finished"]


@pytest.mark.slow
@pytest.mark.ci
def test_failed_training_alerts_trackio_and_its_webhook(
    config: TrainConfig, tmp_path: Path, webhook: Webhook
) -> None:
    code = "assert status == 1 and alerts == [('error', 'Training failed')], (status, alerts)\n"
    train_in_process(config, tmp_path, webhook.url, code, "--learning-rate", "1e30")
    (posted,) = webhook.posted
    assert posted["title"] == "Training failed" and "--learning-rate" in posted["text"]
