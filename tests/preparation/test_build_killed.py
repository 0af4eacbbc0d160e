"""A build killed at any moment produces the same bytes when repeated."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

# One process imports the libraries and forks one build per kill point: SIGKILL arrives before (n
# even) or after (n odd) the nth file is moved into place.
FORKS = """
import json, os, signal, sys
from pathlib import Path
import dataset_scripts
from hf_wbc.preparation.build import prepare
import datasets, huggingface_hub

mapping, archive, out = map(Path, sys.argv[1:4])
stride, moves = int(sys.argv[4]), 0

def counted(move, last, before):
    def wrapper(*args):
        global moves
        moves += 1
        if moves == last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = move(*args)
        if moves == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper

def build(folder, last=None, before=False):
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    Path.replace = counted(Path.replace, last, before)
    Path.rename = counted(Path.rename, last, before)
    source = dataset_scripts.load("class_folders", mapping=mapping)
    prepare(source, archive, folder, num_proc=1)
    os._exit(0)

assert build(out / "whole") == 0
last, status = 0, signal.SIGKILL
while status == signal.SIGKILL:
    last += stride
    folder = out / f"{last}"
    status = build(folder, last, before=last % 2 == 0)
    assert not folder.exists() or (folder / "provenance.json").exists()
    assert build(folder) == 0
assert status == 0
often, times = out / "often", 0
while times < 9 and build(often, 4) != 0:  # a shard is three moves
    times += 1
print(last, times)
"""


def digests(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def own(write: Callable[..., Path], files: Mapping[str, bytes]) -> tuple[Path, Path]:
    """Write a mapping file and its archive."""
    mapping = b"""{"name": "own_lab", "um_per_px": 1.0416666, "classes":
        {"BA": "basophil", "EO": "eosinophil", "MY": "myelocyte", "PLT": null}}"""
    folder = write({f"cells/{name}": data for name, data in files.items()} | {"own.json": mapping})
    return folder / "own.json", folder / "cells"


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=(pytest.mark.slow, pytest.mark.ci))])
@pytest.mark.slow
@pytest.mark.ci
def test_build_killed_at_any_step_resumes_to_same_bytes(
    own: tuple[Path, Path], tmp_path: Path, stride: int
) -> None:
    out = tmp_path / "builds"
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *map(str, (*own, out, stride))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    moves, times = map(int, done.stdout.split())
    assert moves >= 12 and 3 <= times < 9
    folders = sorted(path for path in out.iterdir())
    assert len(folders) >= 12 // stride
    whole = digests(out / "whole")
    assert len(whole) == 8  # two configs of three splits, the card, and the provenance file
    for folder in folders:
        assert digests(folder) == whole, folder
