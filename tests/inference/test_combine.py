"""Soups and ensembles are ordinary trained models, and contain the averages that they promise."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.once import once

import hf_wbc
from hf_wbc.adaptation.norm_layers import batch_norms
from hf_wbc.cli.main import main
from hf_wbc.evaluation.abstention import fit_abstention
from hf_wbc.inference.combine import COMBINATION_FILE, average_weights, combine_models
from hf_wbc.inference.predictor import Predictor
from hf_wbc.models import load_trained
from hf_wbc.models.classifier import ABSENT_BIAS
from hf_wbc.models.ensemble import build_ensemble


@pytest.fixture(scope="module")
def trained(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Return two models fine-tuned with different seeds from a third, which comes first."""

    def make(root: Path) -> None:
        config = hf_wbc.TrainConfig(
            sources=(laboratories[0],),
            model=tiny_model,
            steps=8,
            batch_size=22,
            eval_steps=8,
            learning_rate=1e-2,
        )
        first = hf_wbc.train(config, root).model
        more = [config.replace(model=str(first), seed=seed, learning_rate=1e-3) for seed in (1, 2)]
        paths = [str(first), *(str(hf_wbc.train(each, root).model) for each in more)]
        (root / "models.json").write_text(json.dumps(paths))

    root = once(tmp_path_factory, "to_combine", make)
    found: list[str] = json.loads((root / "models.json").read_text())
    return found


def images(num: int = 3) -> torch.Tensor:
    return torch.randn(num, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def test_ensemble_averages_logits_of_its_members(trained: list[str]) -> None:
    members = [load_trained(name).classifier for name in trained]
    ensemble = build_ensemble(members)
    with torch.no_grad():
        features, logits = ensemble(images())
        mean = torch.stack([member(images()).logits for member in members]).mean(0)
    torch.testing.assert_close(logits, mean, atol=1e-5, rtol=1e-4)
    assert features.shape == (3, sum(member.num_features for member in members))


def test_class_missing_from_one_member_is_averaged_over_others(trained: list[str]) -> None:
    members = [load_trained(name).classifier for name in trained[:2]]
    present = torch.ones(11, dtype=torch.bool)
    present[3] = present[5] = False
    members[0].mask_absent_classes(present)
    members[1].mask_absent_classes(present | (torch.arange(11) == 3))
    with torch.no_grad():
        logits = build_ensemble(members)(images()).logits
        alone = members[1](images()).logits
    torch.testing.assert_close(logits[:, 3], alone[:, 3], atol=1e-5, rtol=1e-4)
    assert (logits[:, 5] < ABSENT_BIAS / 2).all()


def test_saved_ensemble_works_like_any_model(
    trained: list[str], laboratories: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "both"
    made = combine_models(trained[1:], laboratories[:1], out)
    loaded = load_trained(str(out))
    members = [load_trained(name).classifier for name in trained[1:]]
    with torch.no_grad():
        mean = torch.stack([member(images()).logits for member in members]).mean(0)
        logits = loaded.classifier(images()).logits
    torch.testing.assert_close(logits, mean / made.temperature, atol=1e-4, rtol=1e-4)
    assert loaded.exposed_to == ("home",)
    scores = hf_wbc.evaluate(out, laboratories[0], tmp_path, splits=("validation",))["scores"]
    assert scores["macro_f1"] == pytest.approx(made.macro_f1)
    (cell,) = Predictor.load(str(out), runtime="torch").predict(
        [np.full((60, 60, 3), 200, np.uint8)], 0.5
    )
    assert cell.conformal_set and cell.probabilities.sum() == pytest.approx(1)


def test_conformal_sets_and_reject_options_of_an_ensemble_are_fitted_on_its_own_logits(
    trained: list[str], laboratories: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "both"
    made = combine_models(trained[1:], laboratories[:1], out)
    record = hf_wbc.evaluate(out, laboratories[0], tmp_path, splits=("validation",))
    rows = pq.read_table(tmp_path / record["run"] / "predictions.parquet")
    logits = np.stack(rows["logits"].to_numpy())
    fitted = fit_abstention(logits, rows["label"].to_numpy(), made.temperature).to_dict()
    saved = load_trained(str(out)).abstention
    assert saved is not None
    assert saved["rejection"] == pytest.approx(fitted["rejection"], abs=1e-4)
    own, again = (each["sets"]["marginal"]["thresholds"] for each in (saved, fitted))
    assert own == pytest.approx(again, abs=1e-4)
    for name in trained[1:]:
        member = load_trained(name).abstention
        assert member is not None
        assert own != pytest.approx(member["sets"]["marginal"]["thresholds"], abs=1e-5)
    assert record["calibration"]["conformal"]["marginal"]["coverage"] >= 0.9


def test_soup_is_weighted_mean_of_weights(trained: list[str]) -> None:
    members = [load_trained(name).classifier for name in trained[:2]]
    soup = average_weights(members, (1, 3)).state_dict()
    for name, tensor in members[0].state_dict().items():
        other = members[1].state_dict()[name]
        torch.testing.assert_close(soup[name], 0.25 * tensor + 0.75 * other)


def test_soup_recomputes_batch_norm_statistics(
    laboratories: tuple[str, str], tmp_path: Path
) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    from hf_wbc.models.load import set_labels

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 4, 4], depths=[1, 1, 1, 1])
    set_labels(config)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:  # statistics of a new network: mean 0, variance 1
        ResNetForImageClassification(config).save_pretrained(folder)
        ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    combine_models([str(f) for f in folders], laboratories[:1], tmp_path / "soup", "soup")
    norms = batch_norms(load_trained(str(tmp_path / "soup")).classifier)
    assert norms and all(norm.running_mean.abs().max() > 1e-4 for norm in norms)


def test_combine_writes_model_and_its_provenance(
    trained: list[str], laboratories: tuple[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "soup"
    words = ["combine", *trained[1:], "--sources", laboratories[0], "--out", str(out)]
    assert main([*words, "--how", "soup"]) == 0
    facts = json.loads((out / COMBINATION_FILE).read_text())
    assert facts["how"] == "soup" and [each["name"] for each in facts["members"]] == trained[1:]
    assert all(each["revision"].startswith("sha256:") for each in facts["members"])
    assert f"{facts['macro_f1']:.3f}" in capsys.readouterr().out
    assert main(words) == 1 and "exists" in capsys.readouterr().err


def test_invalid_combinations_are_refused_before_writing(
    trained: list[str], laboratories: tuple[str, str], tmp_path: Path
) -> None:
    out, sources = tmp_path / "out", laboratories[:1]
    with pytest.raises(ValueError, match="at least two"):
        combine_models(trained[:1], sources, out)
    with pytest.raises(ValueError, match="each once"):
        combine_models([trained[0]] * 2, sources, out)
    with pytest.raises(ValueError, match="weights are 1"):
        combine_models(trained[:2], sources, out, "soup", (1.0,))
    with pytest.raises(ValueError, match="weights are -1"):
        combine_models(trained[:2], sources, out, "soup", (-1.0, 2.0))
    with pytest.raises(ValueError, match="no sources"):
        combine_models(trained[:2], (), out)
    assert not out.exists()


def test_damaged_ensemble_is_refused(trained: list[str], tmp_path: Path) -> None:
    build_ensemble([load_trained(name).classifier for name in trained[:2]]).model.save_pretrained(
        tmp_path
    )
    config = json.loads((tmp_path / "config.json").read_text())
    timm = {
        "model_type": "timm_wrapper",
        "architecture": "resnet10t",
        "model_args": {"checkpoint_path": "x"},
    }
    for members, said in (
        ("none", "members is no list"),
        ([config], "an ensemble itself"),
        ([timm, timm], "checkpoint_path"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, "members": members}))
        with pytest.raises(ValueError, match=said):
            load_trained(str(tmp_path))
