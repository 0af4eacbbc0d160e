"""Preprocessing from training is repeated at prediction, or reported as omitted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.data.dataset import load_split
from hf_wbc.data.image_statistics import color_statistics, sharpness, spectrum
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.engine.features import embed, load_images
from hf_wbc.engine.run import run
from hf_wbc.inference.evaluate import evaluate_model
from hf_wbc.models import load_classifier, load_trained
from hf_wbc.records import RunFolder

TREATED: dict[str, Any] = {"normalize_by": "domain", "sharpness": "common", "blur_um": 0.5}


@pytest.fixture(scope="module")
def short(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    """Configure two steps on the source, scored on the target."""
    home, away = laboratories
    return TrainConfig(
        sources=(home,), target=(away,), model=tiny_model, steps=2, batch_size=8, learning_rate=1e-2
    )


@pytest.fixture(scope="module")
def treated(short: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a finished run with every preprocessing step; tests must not modify it."""
    root = tmp_path_factory.mktemp("treated")
    return run(short.replace(**TREATED), root / "runs", root / "cache")


def logits_of(folder: RunFolder, domain: str) -> np.ndarray:
    rows = pq.read_table(folder.predictions).to_pylist()
    chosen = [row["logits"] for row in rows if row["domain"] == domain and row["split"] == "test"]
    return np.array(chosen)


def plain_logits(folder: RunFolder, ref: str) -> np.ndarray:
    """Compute logits with plain transformers on the dataset's images."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder.model)
    processor = AutoImageProcessor.from_pretrained(folder.model, backend="torchvision")
    images = list(load_split(ref, "test").dataset["image"])
    with torch.no_grad():
        found: np.ndarray = model(**processor(images, return_tensors="pt")).logits.numpy()
    return found


def test_plain_run_matches_pipeline_without_note(short: TrainConfig, tmp_path: Path) -> None:
    folder = run(short, tmp_path / "runs", tmp_path / "cache")
    images = folder.read_record()["images"]
    assert images["note"] == "" and images["pipeline_scores"] == {}
    assert "hf_wbc_images" not in json.loads((folder.model / "config.json").read_text())
    expected = plain_logits(folder, short.data.target[0])
    np.testing.assert_allclose(logits_of(folder, "away"), expected, atol=1e-4)


def test_preprocessing_is_measured_recorded_and_saved(
    short: TrainConfig, treated: RunFolder
) -> None:
    images = treated.read_record()["images"]
    loaded = load_classifier(short.model.name)
    levels = []
    for ref, name in ((short.data.sources[0], "home"), (short.data.target[0], "away")):
        table = load_images(loaded, load_split(ref, "train"))
        colors = color_statistics(table)
        assert images["domains"][name]["mean"] == list(colors.mean)
        assert images["domains"][name]["std"] == list(colors.std)
        levels.append(sharpness(spectrum(table)))
    assert images["rule"] == {
        "normalize_by": "domain",
        "sharpness_per_um": min(levels),
        "blur_um": 0.5,
        "flips": False,
    }
    widths = [images["domains"][name]["blur_um"] for name in ("home", "away")]
    assert min(widths) == 0.5 and max(widths) > 0.5
    saved = json.loads((treated.model / "config.json").read_text())["hf_wbc_images"]
    assert saved["rule"] == images["rule"]
    assert "a plain transformers pipeline does not" in images["note"]


def test_record_states_scores_of_plain_pipeline(short: TrainConfig, treated: RunFolder) -> None:
    images = treated.read_record()["images"]
    assert set(images["pipeline_scores"]) == {"home", "away"}
    logits = plain_logits(treated, short.data.target[0])
    labels = load_split(short.data.target[0], "test").labels
    accuracy = float((logits.argmax(1) == labels).mean())
    assert images["pipeline_scores"]["away"]["accuracy"] == pytest.approx(accuracy)
    assert not np.allclose(logits, logits_of(treated, "away"), atol=1e-3)


def test_processor_has_statistics_of_the_only_target(short: TrainConfig, tmp_path: Path) -> None:
    by_domain = short.replace(normalize_by="domain")
    folder = run(by_domain, tmp_path / "runs", tmp_path / "cache")
    expected = plain_logits(folder, short.data.target[0])
    np.testing.assert_allclose(logits_of(folder, "away"), expected, atol=1e-4)
    images = folder.read_record()["images"]
    assert set(images["pipeline_scores"]) == {"home"}
    assert "the saved processor has those of away" in images["note"]


def test_evaluation_applies_preprocessing_of_model(
    short: TrainConfig, treated: RunFolder, tmp_path: Path
) -> None:
    folder = evaluate_model(str(treated.model), short.data.target[0], tmp_path / "scored", ["test"])
    np.testing.assert_allclose(logits_of(folder, "away"), logits_of(treated, "away"), atol=1e-4)
    images = folder.read_record()["images"]
    assert images["measured_on"]["split"] == "train"
    away = treated.read_record()["images"]["domains"]["away"]
    assert images["treatment"]["mean"] == pytest.approx(away["mean"])
    assert images["treatment"]["blur_um"] == pytest.approx(away["blur_um"])


def test_training_and_prediction_use_same_preprocessing(
    short: TrainConfig, treated: RunFolder
) -> None:
    loaded = load_trained(str(treated.model))
    domain = load_split(short.data.target[0], "test")
    how = treated.read_record()["images"]["domains"]["away"]
    treatment = ImagePreprocessing(tuple(how["mean"]), tuple(how["std"]), how["blur_um"])
    pixels = load_images(loaded, domain).batch(np.arange(len(domain)))
    with torch.inference_mode():
        logits = loaded.classifier(preprocess(pixels, treatment)).logits.numpy()
    np.testing.assert_allclose(logits, logits_of(treated, "away"), atol=1e-4)


def test_model_with_preprocessing_cannot_be_embedded_as_plain(
    short: TrainConfig, treated: RunFolder, tmp_path: Path
) -> None:
    from hf_wbc.engine.accelerator import make_accelerator

    loaded, domain = load_trained(str(treated.model)), load_split(short.data.target[0], "test")
    with pytest.raises(ValueError, match="images preprocessed by domain"):
        embed(loaded, domain, tmp_path / "cache", make_accelerator())


def test_further_training_without_preprocessing_drops_the_rule(
    short: TrainConfig, treated: RunFolder, tmp_path: Path
) -> None:
    further = run(short.replace(model=str(treated.model)), tmp_path / "r", tmp_path / "cache")
    assert load_trained(str(treated.model)).rule.needs_images
    assert load_trained(str(further.model)).rule.is_plain


@pytest.mark.slow
@pytest.mark.ci
def test_target_statistics_do_not_use_labels(
    short: TrainConfig, tmp_path: Path, make_domain: Any
) -> None:
    away = {"name": "away", "seed": 2, "background": (180, 200, 240)}
    unlabeled = str(make_domain(tmp_path / "unlabeled", labeled=False, **away))
    strength = Augmentation(stain=0.1, target_shift=0.8)
    shifted = short.replace(augmentation=strength, sharpness="common")
    first = run(shifted, tmp_path / "runs", tmp_path / "cache")
    second = run(replace(shifted, target=(unlabeled,)), tmp_path / "runs", tmp_path / "cache")
    assert first.path != second.path
    weights = [load_file(folder.model / "model.safetensors") for folder in (first, second)]
    unshifted = run(
        replace(shifted, augmentation=replace(strength, target_shift=0.0)),
        tmp_path / "runs",
        tmp_path / "cache",
    )
    other = load_file(unshifted.model / "model.safetensors")
    for name, weight in weights[0].items():
        np.testing.assert_array_equal(weight, weights[1][name], err_msg=name)
    assert any(not np.array_equal(weight, other[name]) for name, weight in weights[0].items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": (), "augmentation": Augmentation(target_shift=0.5)}, "one with --target"),
        (
            {"normalize_by": "domain", "augmentation": Augmentation(target_shift=0.5)},
            "removes the colors",
        ),
        ({"normalize_by": "image"}, "normalize_by is 'image'; choose from checkpoint, domain"),
        ({"sharpness": "high"}, "sharpness is 'high'; choose from own, common"),
        ({"blur_um": -1.0}, "blur_um is -1.0"),
        ({"inputs": "features", "sharpness": "common"}, "use --inputs images"),
        ({"inputs": "features", "augmentation": Augmentation(stain=0.1)}, "use --inputs images"),
    ],
)
def test_invalid_combination_is_refused_with_remedy(
    config: TrainConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config.replace(**change)
