"""The demo's Space as published starts with only its own requirements."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hf_wbc.hub.publish_space import space_publication
from hf_wbc.shipped import shipped

SPACE = shipped("spaces/wbc")
FRONT = yaml.safe_load((SPACE / "README.md").read_text().split("---\n")[1])
LINES = [
    line for line in (SPACE / "requirements.txt").read_text().splitlines() if line[:1] not in "#"
]
START_SECONDS = 240
# Packages that the Space does not require (except those that transformers probes for), and those
# that would access the network.
WITHOUT = """
import socket, sys

names = {"datasets", "evaluate", "tyro", "umap", "openvino"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in names:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
connect = socket.socket.connect

def guarded(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError("no network here")
    return connect(self, address)

socket.socket.connect = guarded
"""


def test_every_requirement_is_pinned_and_gradio_matches_sdk() -> None:
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in LINES)
    assert f"gradio=={FRONT['sdk_version']}" in LINES
    assert {"sdk", "python_version", "app_file", "license", "title"} <= set(FRONT)


def test_toy_model_is_small_without_local_paths() -> None:
    sizes = {path.name: path.stat().st_size for path in (SPACE / "toy_model").iterdir()}
    assert sizes["model.safetensors"] < 300_000
    assert sum(sizes.values()) < 1_000_000
    for path in (SPACE / "toy_model").glob("*.json"):
        assert not re.search(r'"(/|[A-Z]:\\)', path.read_text())


def test_shipped_model_is_small_without_local_paths() -> None:
    sizes = {path.name: path.stat().st_size for path in (SPACE / "model").iterdir()}
    assert sizes.pop("model.safetensors") < 10_000_000 and max(sizes.values()) < 1_000_000
    for path in (SPACE / "model").glob("*.json"):
        assert not re.search(r'"(/|[A-Z]:\\)', path.read_text())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.ci
def test_published_folder_starts_with_its_own_requirements(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from gradio_client import Client

    space, guard = tmp_path / "space", tmp_path / "guard"
    for name, file in space_publication("wbc", None).files.items():  # type: ignore[arg-type]
        path = space / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(WITHOUT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(guard),
        "TMPDIR": str(tmp_path),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(free_port()),
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=space, env=environment, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"open (http\S+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        assert str(space) in log.read_text()  # its own model, and therefore its own hf_wbc
        about = Client(found[1], verbose=False).predict(api_name="/about")
        assert not about["is_toy"] and about["model"]["name"] == "space"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
