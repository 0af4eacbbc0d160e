"""The shipped model: its card, its scores on real cells, its examples, and its licenses."""

import functools
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import tyro
from safetensors.torch import load_file

import hf_wbc
from hf_wbc.app.examples import real_examples
from hf_wbc.cli.main import main
from hf_wbc.cli.quickstart import name_real_cells
from hf_wbc.cli.shipped_model import card, make_shipped_model, require_licenses, round_to_half
from hf_wbc.shipped import shipped
from hf_wbc.study.protocols import BANDS_MERGED, COMMON_CLASSES
from hf_wbc.taxonomy import NAMES

MODEL = shipped("spaces/wbc/model")


def test_card_shows_scores() -> None:
    scores = json.loads((MODEL / "scores.json").read_text())
    assert (MODEL / "README.md").read_text() == card(scores)


def test_weights_are_stored_in_half_precision() -> None:
    tensors = load_file(MODEL / "model.safetensors").values()
    assert {each.dtype for each in tensors if each.is_floating_point()} == {torch.float16}


def test_model_classifies_example_cells(capsys: pytest.CaptureFixture[str]) -> None:
    name_real_cells()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert len(rows) == len(real_examples()) == 12
    assert all(row[1] in NAMES and row[2] in NAMES for row in rows)
    assert sum(row[1] == row[2] for row in rows) >= 9


@pytest.mark.slow  # predicts hundreds of cells
@pytest.mark.ci
def test_scores_on_real_cells_match_card(shared: Path, tmp_path: Path) -> None:
    cells = shared / "data" / "cellavision_blog"
    mapping = str(cells / "class_folders.json")
    data = tmp_path / "cellavision_blog"
    made = ["--archive", str(cells / "images"), "--mapping", mapping, "--out", str(data)]
    assert main(["prepare", "class_folders", *made]) == 0
    record = hf_wbc.evaluate(
        MODEL, data, tmp_path / "evaluations", splits=("train", "validation", "test"),
        merge=BANDS_MERGED, classes=COMMON_CLASSES, allow_unscaled=True,
    )  # fmt: skip
    stated = json.loads((MODEL / "scores.json").read_text())["scores"]["cellavision_blog"]
    assert record["scores"]["num_images"] == stated["num_images"]
    assert record["scores"]["macro_f1"] == pytest.approx(stated["macro_f1"], abs=0.01)


def test_weights_of_unknown_license_are_refused(laboratories: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="whose license does not allow redistribution"):
        require_licenses(laboratories[0], "efficientnet-lite0", None)


@pytest.mark.parametrize(("license", "refused"), [(None, True), ("apache-2.0", False)])
def test_local_weights_require_a_stated_license(
    license: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Acevedo:
        name = "acevedo_20"

    monkeypatch.setattr("hf_wbc.data.dataset.load_split", lambda ref, split: Acevedo())
    if refused:
        with pytest.raises(ValueError, match="license of the weights in folder is unknown"):
            require_licenses("build/acevedo_20", "folder", license)
    else:
        assert require_licenses("build/acevedo_20", "folder", license) == {
            "source": "acevedo_20", "data_license": "cc-by-4.0", "weights_license": "apache-2.0",
        }  # fmt: skip


def test_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.tensor([1e6])}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="beyond the range of half precision"):
        round_to_half(tmp_path)


def test_command_on_the_card_parses() -> None:
    text = (MODEL / "README.md").read_text().replace("\\\n", " ")
    (command,) = [line for line in text.splitlines() if "hf_wbc.cli.shipped_model" in line]
    words = shlex.split(command)
    seen: list[object] = []

    @functools.wraps(make_shipped_model)
    def parsed(*args: object, **options: object) -> None:
        seen.append((args, options))

    arguments = words[words.index("hf_wbc.cli.shipped_model") + 1 :]
    tyro.cli(parsed, args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    assert seen and all(word in str(seen) for word in arguments if not word.startswith("--"))


SHORT = """
import sys
from pathlib import Path
import hf_wbc.cli.shipped_model as shipped_model
shipped_model.STEPS, shipped_model.IMAGE_SIZE = 20, 28
data, model, folder = sys.argv[1:]
shipped_model.make_shipped_model(
    data, Path(folder) / "space", model, weights_license="apache-2.0", work=Path(folder) / "work"
)
"""
"""Makes a model as the command does, from 20 steps of a tiny network."""


@pytest.mark.slow  # trains in two processes
@pytest.mark.ci
def test_two_processes_make_the_same_bytes(
    make_domain: Callable[..., Path], tiny_model: str, tmp_path: Path
) -> None:
    data = make_domain(tmp_path / "acevedo_20", name="acevedo_20")
    shutil.copytree(data / "cropped", data / "original")
    made = []
    for name in ("first", "second"):
        arguments = [str(data), tiny_model, str(tmp_path / name)]
        subprocess.run([sys.executable, "-c", SHORT, *arguments], check=True)
        made.append(tmp_path / name / "space" / "model")
    for file in ("model.safetensors", "config.json", "scores.json", "README.md"):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes(), file
