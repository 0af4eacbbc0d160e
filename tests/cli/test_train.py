"""`hf-wbc train` from the command line to the finished folder; every flag has an effect."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from hf_wbc.cli.main import main
from hf_wbc.config import AUGMENTATIONS, GROUPS
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import NAMES

UNCHANGED = ["--augmentation", "none"]
FILES = {
    "config.json", "record.json", "history.jsonl", "predictions.parquet", "features.parquet",
    "model",
}  # fmt: skip
Weights = dict[str, np.ndarray]
Train = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def train(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Run the command with extra arguments in a new folder; the same arguments run once."""
    root = tmp_path_factory.mktemp("train")
    made: dict[tuple[object, ...], RunFolder] = {}

    def run(*more: str, model: str = tiny_model, target: str = laboratories[1]) -> RunFolder:
        if found := made.get((more, model, target)):
            return found
        out = root / f"runs{len(made)}"
        words = f"--sources {laboratories[0]} --target {target} --model {model}".split()
        words += ["--output-dir", str(out)]
        words += f"--cache {root}/cache --steps 6 --batch-size 8 --eval-steps 2".split()
        words += ["--learning-rate", "1e-2", *more]
        assert main(["train", *words]) == 0
        (folder,) = out.iterdir()
        made[more, model, target] = RunFolder(folder)
        return made[more, model, target]

    return run


def saved(run: RunFolder) -> Weights:
    return load_file(run.model / "model.safetensors")


def start_of(model: str) -> Weights:
    return load_file(Path(model) / "model.safetensors")


def moved(run: RunFolder, model: str, name: str) -> float:
    """Return the largest change of a weight."""
    return float(np.abs(saved(run)[name] - start_of(model)[name]).max())


def test_run_folder_has_documented_files_and_record(
    train: Train, laboratories: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("--seed", "7")
    assert {path.name for path in run.path.iterdir()} == FILES
    record = run.read_record()
    assert record["config"]["adapt"]["method_options"] == {}
    assert record["config"]["model"]["image_size"] == 28 and record["config"]["seed"] == 7
    for role, where in (("sources", laboratories[0]), ("target", laboratories[1])):
        (facts,) = record[role]
        assert facts["ref"] == where and facts["revision"] is None
        assert facts["um_per_px"] == pytest.approx(25 / 36)
        assert facts["num_images"] == {"train": 44, "validation": 22, "test": 22}
        assert len({facts[split] for split in ("train", "validation", "test")}) == 3
    assert record["model"]["revision"].startswith("sha256:")
    assert record["model"]["exposure"] == "unknown"
    assert record["packages"]["transformers"] and record["machine"]["num_processes"] == 1
    cost = record["cost"]
    assert cost["elapsed_s"] > cost["train_s"] > 0
    assert cost["images_per_s"] == pytest.approx(48 / cost["train_s"])
    assert cost["peak_memory_bytes"] > 10**7
    scores = record["results"]["away"]["test"]
    assert scores["per_class"].keys() == set(NAMES)
    low, high = scores["intervals"]["macro_f1"]
    assert low <= scores["macro_f1"] <= high
    chosen = [row["selection"]["source_val"] for row in record["history"]]
    assert record["selection"]["score"] == max(chosen)
    assert [row["selection"]["last"] for row in record["history"]] == [2, 4, 6]
    assert str(run.path) in capsys.readouterr().out


@pytest.mark.parametrize("inputs", ["images", "features"])
def test_saved_model_is_a_plain_transformers_model(
    train: Train, laboratories: tuple[str, str], inputs: str
) -> None:
    """`pipeline` reproduces predictions.parquet from the images alone."""
    from datasets import load_dataset
    from transformers import pipeline

    run = train("--inputs", inputs)
    classify = pipeline("image-classification", model=str(run.model))
    images = load_dataset(laboratories[1], split="test").select(range(0, 22, 5))
    rows = pq.read_table(run.predictions).to_pylist()
    known = {row["image_id"]: row for row in rows if row["domain"] == "away"}
    for image in images:
        row = known[image["image_id"]]
        found = {entry["label"]: entry["score"] for entry in classify(image["image"], top_k=11)}
        assert found.keys() == set(NAMES)
        for name in NAMES:
            assert found[name] == pytest.approx(row[f"p_{name}"], abs=1e-4)
        assert row["predicted"] == NAMES.index(max(found, key=lambda name: found[name]))


def test_repeated_command_does_nothing(
    train: Train, laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    run = train()
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    words = f"--sources {laboratories[0]} --target {laboratories[1]} --model {tiny_model}".split()
    words += f"--output-dir {run.path.parent} --steps 6 --batch-size 8 --eval-steps 2".split()
    assert main(["train", *words, "--learning-rate", "1e-2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.ci
def test_patience_applies_to_selection_rule(train: Train) -> None:
    stuck = ("--steps", "100", "--learning-rate", "0", "--patience", "2")
    record = train(*stuck, "--selection", "source_val").read_record()
    assert record["cost"]["steps"] == 6 and record["selection"]["step"] == 2
    record = train("--learning-rate", "0", "--patience", "2", "--selection", "last").read_record()
    assert record["cost"]["steps"] == 6 and record["selection"]["step"] == 6


@pytest.mark.slow
@pytest.mark.ci
def test_averaged_weights_lag_behind_raw_ones(train: Train, tiny_model: str) -> None:
    last = ("--selection", "last", "--warmup-ratio", "0")
    averaged, raw = train(*last, "--ema", "0.999"), train(*last)
    name = "vit.embeddings.patch_embeddings.projection.weight"
    assert 0 < moved(averaged, tiny_model, name) < moved(raw, tiny_model, name)


def test_gradient_accumulation_matches_double_batch_size(train: Train) -> None:
    parts = saved(
        train(*UNCHANGED, "--gradient-accumulation-steps", "2", "--learning-rate", "1e-3")
    )
    whole = saved(train(*UNCHANGED, "--batch-size", "16", "--learning-rate", "1e-3"))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=2e-5, err_msg=name)


def test_explicit_ranges_override_named_augmentation(train: Train) -> None:
    run = train("--hue", "0.02", "--augmentation", "light", "--steps", "1")
    strength = run.read_record()["config"]["data"]["augmentation"]
    assert strength == asdict(replace(AUGMENTATIONS["light"], hue=0.02))


def test_bf16_changes_losses_slightly_and_saves_fp32(train: Train) -> None:
    exact, rounded = train(), train("--mixed-precision", "bf16")
    assert all(values.dtype == np.float32 for values in saved(rounded).values())
    losses = [[row["loss"]["loss"] for row in run.read_history()] for run in (exact, rounded)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_layer_decay_slows_layers_near_input(train: Train, tiny_model: str) -> None:
    patches = "vit.embeddings.patch_embeddings.projection.weight"
    assert moved(train("--selection", "last"), tiny_model, patches) > 1e-3
    slowed = train("--selection", "last", "--layer-decay", "1e-4", "--weight-decay", "0")
    assert moved(slowed, tiny_model, patches) < 1e-4
    assert moved(slowed, tiny_model, "vit.layernorm.weight") > 1e-3


def test_frozen_backbone_does_not_move(train: Train, tiny_model: str) -> None:
    run = train("--trainable", "frozen", "--bottleneck", "0")
    before, after = start_of(tiny_model), saved(run)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert run.read_record()["model"]["num_trained"] == 11 * 17


def test_batch_norm_statistics_follow_batches_unless_frozen(train: Train, tmp_path: Path) -> None:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    model = tmp_path / "resnet"
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(model)
    ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(model)
    statistics = "resnet.embedder.embedder.normalization.running_mean"
    assert moved(train(model=str(model)), str(model), statistics) > 1e-3
    frozen = train("--batch-norm", "frozen", model=str(model))
    assert moved(frozen, str(model), statistics) == 0
    assert moved(frozen, str(model), statistics.replace("running_mean", "weight")) > 1e-3


def test_unscaled_dataset_is_used_when_allowed_and_recorded(
    train: Train, make_domain: Any, tmp_path: Path
) -> None:
    unscaled = str(make_domain(tmp_path / "unscaled", name="unscaled", um_per_px=None))
    record = train("--allow-unscaled", target=unscaled).read_record()
    assert record["config"]["data"]["allow_unscaled"] is True
    assert record["target"][0]["um_per_px"] is None


def test_deprecated_flags_still_work_and_name_replacements(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path, capsys: Any
) -> None:
    words = f"--sources {laboratories[0]} --model {tiny_model} --steps 2 --batch-size 8".split()
    new = ["--output-dir", str(tmp_path), "--learning-rate", "1e-2", "--eval-steps", "1"]
    assert main(["train", *words, *new, "--no-from-scratch", "--mixed-precision", "no"]) == 0
    assert "is now" not in capsys.readouterr().err
    old = ["--out", str(tmp_path), "--lr=1e-2", "--evaluate-every", "1", "--no-fresh"]
    assert main(["train", *words, *old, "--precision", "fp32"]) == 0
    said = capsys.readouterr().err.splitlines()
    for before, now in (
        ("--out", "--output-dir"), ("--lr", "--learning-rate"),
        ("--evaluate-every", "--eval-steps"),
        ("--no-fresh", "--no-from-scratch"), ("--precision", "--mixed-precision"),
    ):  # fmt: skip
        assert said.count(f"hf-wbc: {before} is now {now}") == 1
    assert len([*tmp_path.glob("*/record.json")]) == 1, "it is one run"


def test_help_shows_common_flags_and_help_all_shows_all(capsys: Any) -> None:
    shown = []
    for flag in ("--help", "--help-all"):
        assert main(["train", flag]) == 0
        shown.append(capsys.readouterr().out)
    common, every = shown
    assert "Example:\n  hf-wbc train" in common and "--learning-rate" in common
    assert "--layer-decay" not in common and "--layer-decay" in every
    for group in GROUPS.values():
        assert (group.__doc__ or "").partition(".")[0] in " ".join(every.split())
