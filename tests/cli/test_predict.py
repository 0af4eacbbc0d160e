"""`hf-wbc predict MODEL FOLDER` on raw images agrees with `evaluate` on prepared ones."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import dataset_scripts
from dataset_scripts import _challenge
from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.data.crop import Geometry, crop_and_resize
from hf_wbc.data.preprocessing import PreprocessingRule
from hf_wbc.engine.run import run
from hf_wbc.models import Exposure, load_trained, save_classifier
from hf_wbc.taxonomy import NAMES

UM_PER_PX = 0.5
CLASSES = NAMES[:3]


@pytest.fixture(scope="module")
def model(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Train a run whose model distinguishes colors."""
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, learning_rate=1e-2, steps=40)
    out = tmp_path_factory.mktemp("runs")
    return str(run(config, out, out / "cache").model)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write frames of 30 to 40 um a side in class folders: PNG, JPEG, TIFF with alpha."""
    root, rng = tmp_path_factory.mktemp("raw") / "cells", np.random.default_rng(5)
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for cell in range(6):
            height, width = (int(side) for side in rng.integers(60, 80, 2))
            pixels = rng.integers(0, 80, (height, width, 3), np.uint8)
            pixels[10:-10, 10:-10, number] += np.uint8(120)
            image = Image.fromarray(pixels)
            suffix, kind = ((".png", "PNG"), (".jpg", "JPEG"), (".TIF", "TIFF"))[cell % 3]
            if suffix == ".TIF":
                image.putalpha(9)
            image.save(root / name / f"{name}_{cell}{suffix}", kind)
    (root / "notes.txt").write_text("where they are from")
    return root


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the same frames with `hf-wbc prepare`."""
    folder = tmp_path_factory.mktemp("prepared")
    mapping = {"name": "raw", "um_per_px": UM_PER_PX, "classes": {name: name for name in CLASSES}}
    (folder / "mapping.json").write_text(json.dumps(mapping))
    words = ["prepare", "class_folders", "--archive", str(raw), "--out", str(folder / "raw")]
    assert main([*words, "--mapping", str(folder / "mapping.json"), "--num-proc", "1"]) == 0
    return folder / "raw"


def predict(model: str, folder: Path, out: Path, *more: str) -> int:
    form = "parquet" if out.suffix == ".parquet" else "csv"
    form = "challenge" if out.stem == "submission" else form
    words = ["predict", model, str(folder), "--out", str(out), "--format", form]
    runtime = () if "--runtime" in more else ("--runtime", "torch")
    return main([*words, "--num-proc", "1", *runtime, *more])


def refused(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """Return the error of a failed command and check that `out` does not exist."""
    assert not out.exists() and not list(out.parent.glob(f"*{out.name}*"))
    return capsys.readouterr().err


def by_file(path: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(path).to_pylist()
    return {row["image_id"].rpartition("/")[2]: row for row in rows}


@pytest.mark.parametrize("rule", ["plain", "flips and blur"])
@pytest.mark.slow
@pytest.mark.ci
def test_raw_images_match_logits_of_evaluate(
    model: str, raw: Path, prepared: Path, tmp_path: Path, rule: str
) -> None:
    if rule != "plain":
        loaded = load_trained(model)
        notes = {"rule": PreprocessingRule(blur_um=0.5, flips=True).to_dict()}
        model = str(tmp_path / "treated")
        save_classifier(loaded.classifier, loaded.processor, Path(model), notes)
    splits = ["--splits", "train", "validation", "test"]
    words = ["evaluate", model, str(prepared), "--out", str(tmp_path / "evaluations"), *splits]
    assert main(words) == 0
    (evaluated,) = (tmp_path / "evaluations").iterdir()
    assert predict(model, raw, tmp_path / "raw.parquet", "--um-per-px", str(UM_PER_PX)) == 0
    assert predict(model, prepared, tmp_path / "prepared.parquet") == 0
    expected = by_file(evaluated / "predictions.parquet")
    for found in (by_file(tmp_path / "raw.parquet"), by_file(tmp_path / "prepared.parquet")):
        assert found.keys() == expected.keys() and len(found) == 18
        for name, row in found.items():
            np.testing.assert_allclose(
                row["logits"], expected[name]["logits"], rtol=1e-5, atol=1e-5
            )
            assert row["predicted_id"] == expected[name]["predicted"]
            assert row["p_monocyte"] == pytest.approx(expected[name]["p_monocyte"], abs=1e-5)
    flat = np.ptp([row["logits"] for row in expected.values()], axis=0).max()
    assert flat > 0.05  # they differ between images by more than the tolerance


def test_preprocessing_rule_is_measured_on_the_folder(
    model: str, raw: Path, tmp_path: Path
) -> None:
    loaded = load_trained(model)
    notes = {"rule": PreprocessingRule(normalize_by="domain").to_dict()}
    seen = Exposure(loaded.exposure, loaded.exposed_to)
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "model", notes, seen)
    out = tmp_path / "a.parquet"
    assert predict(str(tmp_path / "model"), raw, out, "--um-per-px", str(UM_PER_PX)) == 0
    frames = [Image.open(path) for path in sorted(raw.rglob("*_*.*"))]
    size = loaded.preprocessing.size
    geometry = Geometry(size, loaded.preprocessing.resample)
    squares = [crop_and_resize(np.asarray(image)[..., :3], UM_PER_PX, geometry) for image in frames]
    facts = json.loads(pq.read_schema(out).metadata[b"hf_wbc"])
    assert facts["images"]["treatment"]["mean"] == pytest.approx(
        np.mean(squares, axis=(0, 1, 2)) / 255
    )
    assert facts["images"]["measured_on"] == {"num_images": 18}
    assert facts["model"]["exposed_to"] == ["home"]


def test_submission_has_format_of_the_challenge(model: str, raw: Path, tmp_path: Path) -> None:
    flat = tmp_path / "DATA-TEST"
    flat.mkdir()
    for number, path in enumerate(sorted(raw.rglob("*.TIF"))):
        (flat / f"{number}.TIF").write_bytes(path.read_bytes())
    out = tmp_path / "submission.csv"
    assert predict(model, flat, out, "--um-per-px", str(UM_PER_PX)) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "Image,Label,LabelID"
    labels = _challenge.read_labels(out.read_bytes(), "submission.csv", "WBC2")
    assert [*labels] == [f"{number}.TIF" for number in range(6)]
    assert predict(model, flat, tmp_path / "a.parquet", "--um-per-px", str(UM_PER_PX)) == 0
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert labels == {row["image_id"]: row["predicted"] for row in rows}
    assert lines[1:] == [
        f"{row['image_id']},{row['predicted']},{NAMES.index(row['predicted'])}" for row in rows
    ]


def test_duplicate_file_names_are_refused_in_submission(
    model: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("one", "two"):
        (tmp_path / "cells" / place).mkdir(parents=True)
        data = (raw / CLASSES[0] / f"{CLASSES[0]}_0.png").read_bytes()
        (tmp_path / "cells" / place / "1.png").write_bytes(data)
    out = tmp_path / "submission.csv"
    assert predict(model, tmp_path / "cells", out, "--cell-fills-frame") == 1
    assert "several folders contain 1.png" in refused(capsys, out)
    assert predict(model, tmp_path / "cells", tmp_path / "a.csv", "--cell-fills-frame") == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [row["image_id"] for row in rows] == ["one/1.png", "two/1.png"]
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in NAMES) == pytest.approx(1, abs=1e-7)
        assert max(NAMES, key=lambda name: float(row[f"p_{name}"])) == row["predicted"]


def test_repeated_command_writes_identical_bytes(model: str, raw: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        assert predict(model, raw, tmp_path / name, "--um-per-px", str(UM_PER_PX)) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_source_provides_its_scale(model: str, raw: Path, tmp_path: Path) -> None:
    scale = dataset_scripts.load("wbc_1").um_per_px
    (tmp_path / "cells").mkdir()
    frame = np.random.default_rng(1).integers(0, 256, (288, 300, 3), np.uint8)
    Image.fromarray(frame).save(tmp_path / "cells" / "1.TIF")
    assert predict(model, tmp_path / "cells", tmp_path / "a.parquet", "--source", "wbc_1") == 0
    words = ("--um-per-px", repr(scale))
    assert predict(model, tmp_path / "cells", tmp_path / "b.parquet", *words) == 0
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "the scale of the images in"),
        (("--um-per-px", "2"), "25 um are 12 px; if this is in pixels per um, use 0.5"),
        (("--um-per-px", "nan"), "um_per_px is nan; it must be a positive number"),
        (("--um-per-px", "0.5", "--source", "wbc_1"), "both give a scale"),
        (("--um-per-px", "0.5", "--cell-fills-frame"), "choose one of them"),
        (("--source", "wbc_9"), "unknown source 'wbc_9'"),
        (("--um-per-px", "0.1"), "18 of 18 images cannot be used"),
    ],
)
def test_impossible_scale_is_refused(
    model: str,
    raw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "a.csv"
    assert predict(model, raw, out, *more) == 1
    assert said in refused(capsys, out)


def test_prepared_folder_uses_its_own_scale(
    model: str, make_domain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unscaled, out = make_domain(tmp_path / "unscaled", um_per_px=None), tmp_path / "a.csv"
    assert predict(model, unscaled, out, "--um-per-px", "0.5") == 1
    assert "has its own scale" in refused(capsys, out)
    assert predict(model, unscaled, out) == 1
    assert "--cell-fills-frame" in refused(capsys, out)
    assert predict(model, unscaled, out, "--cell-fills-frame", "--splits", "test") == 0
    assert len(out.read_text().splitlines()) == 23


def test_all_bad_images_are_listed_or_skipped_on_request(
    model: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "cells", tmp_path / "a.csv"
    folder.mkdir()
    whole = (raw / CLASSES[0] / f"{CLASSES[0]}_0.png").read_bytes()
    (folder / "a.png").write_bytes(whole)
    (folder / "b.png").write_bytes(whole[:-30])
    (folder / "c.jpg").write_bytes(b"")
    (folder / "d.png").symlink_to(folder / "nothing.png")
    Image.new("RGB", (20, 90)).save(folder / "e.png")
    (folder / "f.png").write_bytes(whole)
    (folder / ".hidden.png").write_bytes(b"junk")
    assert predict(model, folder, out, "--um-per-px", str(UM_PER_PX)) == 1
    said = refused(capsys, out)
    assert "4 of 6 images cannot be used" in said and "--skip-bad" in said
    for words in ("b.png: truncated", "c.jpg: zero bytes", "d.png: cannot be read", "e.png: a fra"):
        assert words in said
    assert predict(model, folder, out, "--um-per-px", str(UM_PER_PX), "--skip-bad") == 0
    told = capsys.readouterr().out
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == ["a.png", "f.png"]
    assert "2 images" in told and "left out: c.jpg: zero bytes" in told
    assert "skipped, not images: .hidden.png" in told


def test_links_are_followed_and_junk_is_counted(
    model: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "cells", tmp_path / "a.csv"
    whole = (raw / CLASSES[0] / f"{CLASSES[0]}_0.png").read_bytes()
    for name in ("day 1/a.png", "day 1/@eaDir/a.png", "../elsewhere/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(whole)
    (folder / "day 2").symlink_to("day 1")
    assert predict(model, folder, out, "--um-per-px", str(UM_PER_PX)) == 0
    told = capsys.readouterr().out
    assert "2 images" in told and "followed links: day 2 -> day 1" in told
    assert "skipped 2 files of other programs: 2 in @eaDir" in told
    (folder / "day 3").symlink_to(tmp_path / "elsewhere")
    assert predict(model, folder, out, "--um-per-px", str(UM_PER_PX)) == 1
    assert "--follow-links" in capsys.readouterr().err
    assert predict(model, folder, out, "--um-per-px", str(UM_PER_PX), "--follow-links") == 0
    assert len(out.read_text().splitlines()) == 1 + 3


def test_folder_without_images_is_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cells").mkdir()
    out = tmp_path / "a.csv"
    assert predict(model, tmp_path / "cells", out, "--cell-fills-frame") == 1
    assert "it is empty" in refused(capsys, out)
    (tmp_path / "cells" / "a.svs").touch()
    assert predict(model, tmp_path / "cells", out, "--cell-fills-frame") == 1
    assert "it holds a.svs" in refused(capsys, out)


@pytest.mark.parametrize(("out", "form"), [("a.csv", "parquet"), ("a.txt", "csv")])
def test_file_extension_must_match_format(
    model: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, form: str
) -> None:
    words = ["predict", model, str(raw), "--out", str(tmp_path / out), "--format", form]
    assert main([*words, "--um-per-px", "0.5"]) == 1
    assert f"the format {form} needs a file name ending in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_file_is_replaced_only_by_a_complete_one(
    model: str, raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    out.write_text("what was there")
    assert predict(model, raw, out, "--um-per-px", "0.1") == 1
    assert out.read_text() == "what was there"
    assert predict(model, raw, out, "--um-per-px", str(UM_PER_PX)) == 0
    assert len(out.read_text().splitlines()) == 19
