"""`hf-wbc prepare` from the user's perspective: real processes, exit codes, and messages."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_wbc.preparation.work_folder import lock_work_folder

HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))
NUM = {"baso": 40, "eos": 450, "other": 5}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder with cells/ and mapping.json, with enough images to interrupt a run."""
    root = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(0)
    for folder, num in NUM.items():
        (root / "cells" / folder).mkdir(parents=True)
        for number in range(num):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            buffer = io.BytesIO()
            coarse.resize((96, 96)).save(buffer, "PNG")
            (root / "cells" / folder / f"cell_{number:04}.png").write_bytes(buffer.getvalue())
    mapping = {"name": "own_lab", "um_per_px": 25 / 90, "image_id": "path"}
    mapping["classes"] = {"baso": "basophil", "eos": "eosinophil", "other": None}
    (root / "mapping.json").write_text(json.dumps(mapping))
    return root


def command(lab: Path, out: Path, *more: str, archive: str = "cells") -> list[str]:
    words = ["prepare", "class_folders", "--mapping", str(lab / "mapping.json")]
    return [HF_WBC, *words, "--archive", str(lab / archive), "--out", str(out), *more]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(lab: Path) -> Path:
    """Build the dataset without interruption in one process."""
    done = run(command(lab, lab / "whole", "--num-proc", "1"))
    assert done.returncode == 0, done.stderr
    words = f"{lab / 'whole'}: 490 images, train 343, validation 49, test 98\n"
    assert done.stdout == words
    return lab / "whole"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(words: list[str], until: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a new session; return when a file that matches `until` exists."""
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not any(folder.glob(until)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.slow
@pytest.mark.ci
def test_finished_folder_is_left_alone(lab: Path, whole: Path) -> None:
    before = contents(whole)
    done = run(command(lab, whole))
    assert done.returncode == 0
    assert done.stdout.endswith("test 98 (already built)\n")
    assert contents(whole) == before


@pytest.mark.slow  # test_build_killed.py kills builds quickly
@pytest.mark.ci
def test_killed_build_resumes_to_identical_bytes(lab: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = command(lab, out, "--num-proc", "2")
    process = start(words, "out.partial/*/scan.npz", tmp_path)
    process.kill()  # only the parent; its workers end with it
    process.communicate(timeout=20)
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert "scan" not in done.stderr  # it resumed
    assert contents(out) == contents(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
@pytest.mark.ci
def test_ctrl_c_exits_with_130_and_second_process_is_refused(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(command(lab, out, "--num-proc", "2"), "out.partial/*/temporary", tmp_path)
    with pytest.raises(ValueError, match="another process is building"), lock_work_folder(out):
        pass
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.rstrip().endswith("hf-wbc: interrupted") and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]


@pytest.mark.parametrize(
    ("more", "archive", "words"),
    [
        (["--num-proc", "0"], "cells", "--num-proc is 0; give 1 or more"),
        ([], "nowhere.zip", "no archive at"),
        ([], "mapping.json", "is not an archive that can be read"),
        (["--seed", "1"], "cells", "was built with a different seed; choose another --out"),
    ],
)
@pytest.mark.slow
@pytest.mark.ci
def test_user_error_is_one_line(
    lab: Path, whole: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], archive: str, words: str,
) -> None:  # fmt: skip
    from hf_wbc.cli.main import main

    before = contents(lab)
    assert main(command(lab, whole, *more, archive=archive)[1:]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("hf-wbc: ") and words in said[-1]
    assert contents(lab) == before


@pytest.mark.slow
@pytest.mark.ci
def test_bad_image_is_named_and_skipped_on_request(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_wbc.cli.main import main

    (tmp_path / "cells" / "baso").mkdir(parents=True)
    names = ["eos/cell_0001.png", "eos/cell_0002.png", "other/cell_0000.png"]
    for name in names:
        (tmp_path / "cells" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cells" / name).write_bytes((lab / "cells" / name).read_bytes())
    (tmp_path / "cells" / "baso" / "cell_0000.png").touch()
    (tmp_path / "mapping.json").write_text((lab / "mapping.json").read_text())
    words = command(tmp_path, tmp_path / "out", "--num-proc", "1")[1:]
    assert main(words) == 1
    assert "1 of 3 images are bad:\n  baso/cell_0000.png: zero bytes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--skip-bad"]) == 0
    assert capsys.readouterr().out.endswith("left out: baso/cell_0000.png: zero bytes\n")
    assert "> **Incomplete.** 1 bad image was left out" in (tmp_path / "out/README.md").read_text()
