"""The upload folder is deleted with the server, however the server stops."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOLDS = """
import time
from hf_wbc.app import launch
from hf_wbc.app.launch import keep_private
launch._import_gradio = lambda: None  # it takes seconds, and test_startup.py stops whole servers
with keep_private() as folder:
    (folder / "upload.png").write_bytes(b"a cell")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_uploads_are_deleted_when_server_stops(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        folder = Path(server.stdout.readline().strip())
        assert (folder / "upload.png").is_file()
        server.send_signal(how)
        server.wait(timeout=60)
    assert not folder.exists()
