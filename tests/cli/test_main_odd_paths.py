"""Paths with special characters, in any script or not text at all, and ASCII-only terminals."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dataset_scripts
from hf_wbc.cli.display import print_results, stage_progress
from hf_wbc.cli.main import main, require_text
from hf_wbc.data.dataset import load_split
from hf_wbc.data.image_blocks import read_image_bytes
from hf_wbc.finder.field_source import open_field
from hf_wbc.inference.image_source import find_image_folder
from hf_wbc.inference.options import PredictOptions
from hf_wbc.models import Exposure, load_classifier, make_processor, save_classifier
from hf_wbc.preparation.build import prepare

ODD = (
    "a[b]",
    "x::y",
    "star*",
    "what?",
    "sp ace (1)",
    "血液 кровь",
    ":cat:",
    "[red]x[/red]",
    "s3:a",
)
MAIN = "import sys; from hf_wbc.cli.main import main; sys.exit(main())"
LATIN_1 = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def model(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an untrained model of the eleven classes."""
    folder = tmp_path_factory.mktemp("model") / "model"
    loaded = load_classifier(tiny_model)
    processor = make_processor(loaded.preprocessing)
    save_classifier(loaded.classifier, processor, folder, exposure=Exposure())
    return str(folder)


def write_cells(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        pixels = np.full((60, 60, 3), len(name), np.uint8)
        Image.fromarray(pixels).save(folder / "plain.png")
        (folder / "plain.png").rename(folder / name)
    return folder


def test_dataset_is_read_from_any_folder(make_domain: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_domain(tmp_path / "cells", num_per_class=1)
    for name in ODD:
        place = tmp_path / name / "cells"
        place.parent.mkdir(parents=True)
        folder = folder.rename(place)
        assert len(load_split(str(folder), "test")) == 11, name


def test_commands_work_in_any_folder(model: str, tmp_path: Path, capsys: Any) -> None:
    work = tmp_path / "[b]*? ::x (血液)"
    raw = write_cells(work / "raw", "1.png", "2 [c].png", "細胞.png")
    for suffix in ("csv", "parquet"):
        out = work / f"cells.{suffix}"
        words = ["predict", model, str(raw), "--um-per-px", "0.5", "--out", str(out)]
        words += ["--format", suffix, "--runtime", "torch", "--num-proc", "1"]
        assert main(words) == 0
        assert f"{out}: 3 images" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[red]x[/red]", ":cat:", "[b]"])
def test_paths_are_printed_without_markup(name: str, capsys: Any) -> None:
    print_results(Path("/runs") / name, {})
    with stage_progress() as report:
        report(name, 1, 1)
    said = capsys.readouterr()
    assert f"/runs/{name}" in said.out and name in said.err


def test_non_utf8_file_name_is_reported_before_computing(
    model: str, tmp_path: Path, capsys: Any
) -> None:
    raw, out = write_cells(tmp_path / "raw", "1.png", f"{LATIN_1}.png"), tmp_path / "cells.csv"
    words = ["predict", model, str(raw), "--um-per-px", "0.5", "--out", str(out)]
    words += ["--runtime", "torch", "--num-proc", "1"]
    assert main(["predict", "no-such-model", *words[2:]]) == 1
    said = capsys.readouterr().err
    assert "1 of 2 file names" in said and "caf\\xe9.png" in said and "--skip-bad" in said
    assert main([*words, "--skip-bad"]) == 0
    assert "left out: caf\\xe9.png: its name is not text" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 2


def test_prepare_skips_non_utf8_file_name_on_request(tmp_path: Path, capsys: Any) -> None:
    write_cells(tmp_path / "raw/basophil", "1.png", "2.png", f"{LATIN_1}.png")
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"name": "own", "um_per_px": 0.5, "classes": {"basophil": "basophil"}}')
    words = ["prepare", "class_folders", "--archive", str(tmp_path / "raw"), "--mapping"]
    words += [str(mapping), "--num-proc", "1", "--out", str(tmp_path / "own")]
    assert main(words) == 1
    assert "basophil/caf\\xe9.png" in capsys.readouterr().err
    assert main([*words, "--skip-bad"]) == 0
    assert "left out: basophil/caf\\xe9.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "shown", "fault"),
    [
        (f"{LATIN_1}.png", "caf\\xe9.png", "not text in UTF-8"),
        ("tab\t.png", "tab\\x09.png", "control characters"),
    ],
)
def test_words_say_what_is_wrong_with_a_file_name(
    tmp_path: Path, name: str, shown: str, fault: str
) -> None:
    raw = write_cells(tmp_path / "raw/basophil", "1.png", name)
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"name": "own", "um_per_px": 0.5, "classes": {"basophil": "basophil"}}')
    source = dataset_scripts.load("class_folders", mapping=mapping)
    found = []
    for attempt in (
        lambda: prepare(source, raw.parent, tmp_path / "own", num_proc=1),
        lambda: find_image_folder(str(raw), PredictOptions(um_per_px=0.5)),
        lambda: read_image_bytes(raw, name),
        lambda: open_field(raw, name).__enter__(),
    ):
        with pytest.raises(ValueError, match=fault) as caught:
            attempt()
        found.append(str(caught.value))
    assert all(shown in each for each in found[:2])
    assert all(("UTF-8" in each) != ("control" in each) for each in found)


def test_non_utf8_folder_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"/data/caf\\xe9 is not text in UTF-8; rename"):
        require_text([f"/data/{LATIN_1}"])
    require_text(["/data/café", "--flag\n"])


@pytest.mark.slow
@pytest.mark.ci
def test_commands_work_on_ascii_terminal(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for words in (["compare", "血液", LATIN_1], ["methods"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *words],
            capture_output=True,
            text=True,
            env=environ,
            cwd=tmp_path,
            errors="replace",
        )
        assert "Traceback" not in done.stderr and "codec" not in done.stderr
        assert done.returncode == (1 if words[0] == "compare" else 0), done.stderr
