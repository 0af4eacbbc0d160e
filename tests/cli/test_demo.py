"""`hf-wbc demo` finds a model, and reports errors in one line."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.startup import find_model
from hf_wbc.cli.main import main
from hf_wbc.shipped import shipped

TOY = shipped("spaces/wbc/toy_model")


def finished(root: Path, name: str, when: int) -> Path:
    """Write a run folder with a model and a dated record."""
    model = root / name / "model"
    model.mkdir(parents=True)
    record = root / name / "record.json"
    record.write_text("{}")
    os.utime(record, (when, when))
    return model


def test_find_model_prefers_argument_then_newest_run_then_shipped(
    tmp_path: Path,
) -> None:
    assert find_model("org/name@v1", tmp_path) == "org/name@v1"
    assert find_model(None, tmp_path / "nowhere") == str(shipped("spaces/wbc/model"))
    finished(tmp_path, "old", 1000)
    newest = finished(tmp_path, "new", 2000)
    (tmp_path / "unfinished" / "model").mkdir(parents=True)
    assert find_model(None, tmp_path) == str(newest)


@pytest.mark.parametrize(
    ("model", "words"), [("nowhere", "unknown model"), ("vit-tiny", "is a backbone")]
)
def test_missing_model_is_a_one_line_error(
    model: str, words: str, capsys: Any, tmp_path: Path
) -> None:
    assert main(["demo", "--model", model]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_port_out_of_range_is_rejected(port: str, capsys: Any) -> None:
    assert main(["demo", f"--port={port}"]) == 1
    error = capsys.readouterr().err
    assert f"--port is {port}" in error and error.count("\n") == 1


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a separate process, as it starts a server."""
    command = "import sys; from hf_wbc.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", command, "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.ci
def test_occupied_port_is_a_one_line_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo("--model", str(TOY), "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and f"port {port} of 127.0.0.1 is taken" in done.stderr


@pytest.mark.slow  # starts a server and loads a model
@pytest.mark.ci
def test_damaged_model_stops_the_server(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(TOY, broken)
    (broken / "model.safetensors").write_bytes(b"0")
    done = demo("--model", str(broken), "--port", "0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and f"{broken} does not load" in done.stderr
