"""Concurrent uploads that arrive and are deleted."""

import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.middleware import _size


def test_uploads_are_weighed_while_others_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "cell.png").write_bytes(b"0" * 100)
    done = threading.Event()

    def come_and_go(name: str) -> None:
        while not done.is_set():
            folder = tmp_path / name / "deep"
            folder.mkdir(parents=True)
            (folder / "cell.png").write_bytes(b"0" * 100)
            shutil.rmtree(tmp_path / name)

    others = [threading.Thread(target=come_and_go, args=(str(number),)) for number in range(4)]
    for other in others:
        other.start()
    try:
        sizes = [_size(tmp_path) for _ in range(500)]
    finally:
        done.set()
        for other in others:
            other.join()
    assert set(sizes) <= {100, 200, 300, 400, 500}
