"""The predictor reproduces the training pipeline's result and explains it in words."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.data.crop import locate_crop
from hf_wbc.data.dataset import load_split
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.data.nucleus import find_nucleus
from hf_wbc.engine.run import run
from hf_wbc.inference.cell_prediction import BLURRED, EMPTY, image_warnings
from hf_wbc.inference.gallery import REFERENCE_FILE, read_reference_set
from hf_wbc.inference.predictor import Predictor
from hf_wbc.inference.saliency import deletion_curve
from hf_wbc.models import load_trained
from hf_wbc.taxonomy import CLASSES, NAMES, NUM_CLASSES

UM_PER_PX = 25 / 36


@pytest.fixture(scope="module")
def home(laboratories: tuple[str, str]) -> str:
    return laboratories[0]


@pytest.fixture(scope="module")
def model(home: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train a run whose model distinguishes colors."""
    config = TrainConfig(sources=(home,), model=tiny_model, learning_rate=1e-2, steps=80)
    out = tmp_path_factory.mktemp("runs")
    return str(run(config, out, out / "cache").model)


@pytest.fixture(scope="module")
def predictor(model: str, home: str) -> Predictor:
    """Load the predictor with its reference."""
    assert main(["reference", model, home, "--all-thumbnails", "--per-class", "3"]) == 0
    return Predictor.load(model, runtime="torch")


def images(ref: str, split: str = "test") -> tuple[list[np.ndarray], np.ndarray]:
    """Return pixels and labels of a prepared folder."""
    domain = load_split(ref, split)
    rows = domain.dataset.with_format("arrow")["image"].to_pylist()
    return [decode_rgb(row["bytes"], "image") for row in rows], domain.labels


def test_predictions_match_scores_of_the_run(predictor: Predictor, model: str, home: str) -> None:
    pixels, _ = images(home)
    answers = predictor.predict(pixels, UM_PER_PX)
    rows = pq.read_table(Path(model).parent / "predictions.parquet").to_pylist()
    expected = [row for row in rows if row["split"] == "test"]
    for answer, row in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.logits, row["logits"], rtol=1e-4, atol=1e-4)
        assert answer.label == row["predicted"]
        expected_chances = softmax(np.array(row["logits"]))
        np.testing.assert_allclose(answer.probabilities, expected_chances, atol=1e-4)


def test_prediction_is_complete_and_consistent(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    abstention = predictor.abstention
    assert abstention is not None
    for answer in predictor.predict(pixels, UM_PER_PX):
        assert answer.probabilities.shape == (NUM_CLASSES,)
        assert answer.probabilities.sum() == pytest.approx(1)
        assert answer.label == answer.probabilities.argmax()
        (inside,) = abstention.sets["class"].sets(answer.logits[None])
        assert set(answer.conformal_set) == set(np.flatnonzero(inside).tolist())
        chances = [answer.probabilities[c] for c in answer.conformal_set]
        assert chances == sorted(chances, reverse=True)
        is_away = bool(abstention.rejection.rejects(answer.logits[None])[0])
        assert answer.rejected == (is_away or EMPTY in answer.warnings)
        assert sum(answer.lineage.values()) == pytest.approx(1)
        pairs = zip(CLASSES, answer.probabilities, strict=True)
        erythroid = sum(p for cell, p in pairs if cell.lineage == "erythroid")
        assert answer.lineage["erythroid"] == pytest.approx(erythroid)
        assert answer.box == (0, 0, 36, 36) and not answer.scale_guessed


def test_frame_gets_same_prediction_as_its_crop(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    wide = [np.pad(each, ((20, 20), (31, 31), (0, 0)), mode="edge") for each in pixels]
    inner, outer = predictor.predict(pixels, UM_PER_PX), predictor.predict(wide, UM_PER_PX)
    central = [b for a, b in zip(inner, outer, strict=True) if b.box == (31, 20, 67, 56)]
    assert len(central) > len(pixels) / 2
    for a, b in zip(inner, outer, strict=True):
        if b.box == (31, 20, 67, 56):
            np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)


def test_pillow_images_with_and_without_alpha_are_accepted(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    plain, clear = Image.fromarray(pixels[0]), Image.fromarray(pixels[0])
    clear.putalpha(7)
    answers = predictor.predict([plain, clear, pixels[0]], UM_PER_PX)
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.logits, answers[0].logits)
    assert predictor.predict([], UM_PER_PX) == []


@pytest.mark.parametrize(
    ("image", "scale", "said"),
    [
        (Image.new("CMYK", (40, 40)), 0.5, "mode CMYK"),
        (np.zeros((40, 40), np.uint8), 0.5, "shape"),
        (np.zeros((40, 40, 3), np.float32), 0.5, "float32"),
        (np.zeros((0, 40, 3), np.uint8), 0.5, "shape"),
        (np.zeros((40, 40, 3), np.uint8), 0.0, "um_per_px is 0.0"),
        (np.zeros((40, 40, 3), np.uint8), 10.0, "if this is in pixels per um, use 0.1"),
        (np.zeros((40, 40, 3), np.uint8), [0.5, 0.5], "2 scales for 1 images"),
    ],
)
def test_invalid_image_or_scale_is_refused(
    predictor: Predictor, image: object, scale: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        predictor.predict([image], scale)  # type: ignore[list-item]


def test_warnings_describe_image_problems(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    cell = pixels[3]
    white = np.full((60, 60, 3), 255, np.uint8)
    tinted = (cell * [0.5, 0.8, 1.0]).astype(np.uint8)
    said = [" ".join(a.warnings) for a in predictor.predict([cell, white, tinted], UM_PER_PX)]
    assert "blurred" not in said[0] and "empty" not in said[0] and "differs from" not in said[0]
    assert "empty" in said[1] and "differs from all training laboratories" in said[2]
    (small,) = predictor.predict([cell[4:32, 4:32]], UM_PER_PX)
    assert "less than 25 um" in " ".join(small.warnings) and small.box == (-4, -4, 32, 32)


def test_blur_is_detected_without_reference_sources() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300]
    sharp = np.full((300, 300, 3), (235, 220, 225), np.float64)
    inside = (x - 150) ** 2 + (y - 150) ** 2 < 46**2
    sharp[inside] = (
        np.array((110, 60, 140))
        + 40 * gaussian_filter(rng.normal(0, 3, (300, 300)), 1.5)[inside, None]
    )
    for pixels, is_soft in ((sharp, False), (gaussian_filter(sharp, (9, 9, 0)), True)):
        image = pixels.clip(0, 255).astype(np.uint8)
        found = locate_crop(image, find_nucleus(image), 0.1)
        assert (BLURRED in image_warnings(image, found, None)) == is_soft


def test_unknown_scale_is_estimated_and_reported(predictor: Predictor) -> None:
    y, x = np.mgrid[:300, :300]
    pixels = np.full((300, 300, 3), (235, 220, 225), np.uint8)
    pixels[(x - 150) ** 2 + (y - 150) ** 2 < 46**2] = (110, 60, 140)
    (answer,) = predictor.predict([pixels])
    assert answer.scale_guessed and answer.um_per_px == pytest.approx(0.1, rel=0.1)
    assert any("estimated from the nuclei" in words for words in answer.warnings)
    white = np.full((300, 300, 3), 255, np.uint8)
    both = predictor.predict([pixels, white])
    assert both[0].um_per_px == both[1].um_per_px
    own = predictor.predict([pixels, pixels], [None, 0.1])
    assert [each.scale_guessed for each in own] == [True, False]
    (huge,) = predictor.predict([pixels], 0.3)
    assert any("check the scale" in words for words in huge.warnings)


def test_nearest_training_cells_come_first(predictor: Predictor, home: str) -> None:
    pixels, labels = images(home, "train")
    answer = predictor.predict(pixels[:1], UM_PER_PX)[0]
    found = predictor.neighbors(answer, 5)
    assert len(found) == 5 and found[0].distance == pytest.approx(0, abs=1e-5)
    assert found[0].label == labels[0] and found[0].source == "home"
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    assert found[0].thumbnail is not None and found[0].thumbnail.startswith(b"\xff\xd8\xff")


def test_model_has_held_out_confusion_and_reference(predictor: Predictor, home: str) -> None:
    held = predictor.held_out
    assert held is not None
    _, labels = images(home, "validation")
    np.testing.assert_array_equal(held.labels, labels)
    card = predictor.info
    assert card["knows_confusion"] and card["num_reference_cells"] == 3 * NUM_CLASSES
    json.dumps(card)


def test_saliency_hides_the_class_faster_than_chance(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    rng, gains = np.random.default_rng(0), []
    for row in range(0, 22, 3):
        (answer,) = predictor.predict(pixels[row : row + 1], UM_PER_PX)
        heat, _ = predictor.saliency(pixels[row], UM_PER_PX, answer.label)
        assert heat.shape == (28, 28) and heat.min() >= 0 and heat.max() <= 1
        inputs = predictor.preprocess_image(pixels[row], UM_PER_PX)
        orders = [heat, rng.random(heat.shape).astype(np.float32)]
        areas = [
            np.mean(deletion_curve(predictor.differentiable_logits(), inputs, answer.label, order))
            for order in orders
        ]
        gains.append(areas[1] - areas[0])
    assert np.mean(gains) > 0


def test_threads_get_their_own_predictions(predictor: Predictor, home: str) -> None:
    pixels, _ = images(home)
    alone = [predictor.predict([each], UM_PER_PX)[0].logits for each in pixels]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: predictor.predict([each], UM_PER_PX)[0], pixels * 4))
    for answer, expected in zip(found, alone * 4, strict=True):
        np.testing.assert_allclose(answer.logits, expected, atol=1e-4)


def test_model_without_reference_still_predicts(model: str, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    predictor = Predictor.load(str(tmp_path / "model"), runtime="torch")
    assert predictor.held_out is None and not predictor.info["knows_confusion"]
    (answer,) = predictor.predict([np.full((60, 60, 3), 200, np.uint8)], 0.5)
    assert predictor.neighbors(answer) == []


def test_reference_of_other_weights_is_refused(predictor: Predictor, model: str) -> None:
    loaded = load_trained(model)
    with torch.no_grad():
        loaded.classifier.head.weight.mul_(1.5)
    with pytest.raises(ValueError, match="belongs to other weights than the model's"):
        read_reference_set(model, loaded)


def test_damaged_reference_is_reported(predictor: Predictor, model: str, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / REFERENCE_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"reference\.parquet cannot be used"):
        Predictor.load(str(tmp_path / "model"), runtime="torch")


def test_missing_model_is_reported() -> None:
    with pytest.raises(ValueError, match="unknown model 'no_such_model'"):
        Predictor.load("no_such_model")
    with pytest.raises(ValueError, match="without the eleven classes"):
        Predictor.load("vit-tiny")


def test_class_names_are_the_eleven(predictor: Predictor) -> None:
    assert predictor.class_names == NAMES
