"""Scores are collected from run folders and from evaluations of exactly these models."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli import train
from hf_wbc.cli.main import parse
from hf_wbc.comparison.laboratory_rows import (
    collect_scores,
    merge_scores,
    read_scores,
    training_command,
    write_scores,
)
from hf_wbc.config import AUGMENTATIONS, TrainConfig
from hf_wbc.models.pretrained import fetch_checkpoint
from hf_wbc.records import RunFolder, write_json

CLASSES = ("eosinophil", "monocyte")


def save_model(folder: Path, weights: bytes) -> None:
    """Write the files that identify a model by their contents."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)


def write_evaluation(
    root: Path, model: Path, laboratory: str, macro_f1: float, **facts: Any
) -> None:
    """Write the record of an evaluation of all images."""
    scores = {
        "macro_f1": macro_f1, "num_images": 9, "merge": [], "classes": list(CLASSES),
        "per_class": dict.fromkeys(CLASSES), "intervals": {"macro_f1": [0.1, 0.9]},
    }  # fmt: skip
    record = {
        "kind": "evaluation",
        "model": {"name": "moved", "revision": fetch_checkpoint(str(model)).revision},
        "data": {"name": laboratory, "um_per_px": None},
        "splits": ["train", "validation", "test"],
        "scores": scores,
        **facts,
    }
    folder = root / "_".join((laboratory, model.parent.name, *facts))
    folder.mkdir(parents=True)
    RunFolder(folder).write_record(record)


def test_target_scores_come_from_runs_and_others_from_evaluations(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs", seed=3)
    other = make_run(tmp_path / "runs", seed=4)
    for path, macro_f1 in ((run, 0.5), (other, 0.6)):
        save_model(path / "model", path.name.encode())
        write_evaluation(tmp_path / "evaluations", path / "model", "third", macro_f1)
    own, evaluated = collect_scores("robust", [run], [tmp_path / "evaluations"])
    results = json.loads((run / "record.json").read_text())["results"]
    assert (own.laboratory, own.images, own.seed) == ("away", "all", 3)
    assert own.macro_f1 == pytest.approx(results["away"]["transductive"]["macro_f1"], abs=1e-4)
    assert (evaluated.laboratory, evaluated.macro_f1, evaluated.num_images) == ("third", 0.5, 9)
    assert evaluated.sources == ("home",) and evaluated.classes == CLASSES
    assert evaluated.command.startswith(own.command)
    assert "--allow-unscaled" in evaluated.command.partition("&&")[2]
    assert str(tmp_path) not in evaluated.command


def test_evaluation_replaces_score_of_run_in_same_laboratory(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs")
    save_model(run / "model", b"")
    write_evaluation(tmp_path / "evaluations", run / "model", "away", 0.5)
    (score,) = collect_scores("robust", [run], [tmp_path / "evaluations"])
    assert (score.laboratory, score.macro_f1) == ("away", 0.5)


def test_vote_of_neighbors_is_a_row_of_its_own(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs")
    save_model(run / "model", b"weights")
    vote = {"num_neighbors": 20, "per_class": 500, "num_cells": 5000, "sources": ["home"]}
    write_evaluation(tmp_path / "evaluations", run / "model", "third", 0.5)
    write_evaluation(tmp_path / "evaluations", run / "model", "third", 0.6, neighbors=vote)
    smaller = {**vote, "per_class": 40, "num_cells": 400}
    write_evaluation(tmp_path / "smaller", run / "model", "third", 0.7, neighbors=smaller)
    folders = [tmp_path / "evaluations", tmp_path / "smaller"]
    own, head, voted, last = collect_scores("robust", [run], folders)
    assert own.row == head.row == "robust" and head.macro_f1 == 0.5
    assert voted.row.startswith("robust") and "20" in voted.row and voted.macro_f1 == 0.6
    assert len(merge_scores([head, voted], [last])) == 3  # of another bank
    training, reference, evaluation = voted.command.split(" && ")
    assert training == own.command and "--neighbors" not in head.command
    words = shlex.split(reference)
    assert words[:2] == ["hf-wbc", "reference"]
    assert words[3:] == ["build/home", "--per-class", "500"]
    assert shlex.split(evaluation)[-2:] == ["--neighbors", "20"]


def test_run_without_target_is_scored_on_its_source(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path, target=None)
    save_model(run / "model", b"")
    (score,) = collect_scores("robust", [run])
    assert score.is_home and score.images == "test"


def test_combination_states_budget_and_runs_of_its_members(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / "runs", seed=seed) for seed in (0, 1)]
    both = tmp_path / "both"
    save_model(both, b"both")
    members = [{"name": f"runs/{run.name}/model"} for run in runs]
    made = {"how": "ensemble", "members": members, "weights": [], "scored_on": {"home": "print"}}
    write_json(both / "combination.json", made)
    write_evaluation(tmp_path / "evaluations", both, "third", 0.7)
    (score,) = collect_scores("ensemble", [both], [tmp_path / "evaluations"])
    assert score.seed is None and score.run == "+".join(run.name for run in runs)
    assert score.sources == ("home",) and score.budget.startswith("2 x (")
    with pytest.raises(ValueError, match="no scores"):
        collect_scores("ensemble", [both])


def test_unfinished_run_is_reported(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "record.json").unlink()
    with pytest.raises(ValueError, match=run.name):
        collect_scores("robust", [run])


def test_scores_round_trip_and_newer_ones_replace_older(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs")
    save_model(run / "model", b"")
    (score,) = collect_scores("robust", [run])
    newer, third = replace(score, macro_f1=0.9), replace(score, row="plain")
    write_scores(tmp_path / "scores.jsonl", merge_scores([score, third], [newer]))
    assert read_scores(tmp_path / "scores.jsonl") == [newer, third]
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match="line 3"):
        read_scores(tmp_path / "scores.jsonl")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"augmentation": "light", "seed": 2, "allow_unscaled": True, "steps": 7},
        {"augmentation": replace(AUGMENTATIONS["robust"], hue=0.05, flips=False)},
        {"method": "dann", "method_options": {"weight": 0.5}, "target": ("data/b", "data/c")},
        {"inputs": "features", "model": "/weights/net", "merge": ("a=b", "c=d"), "bottleneck": 0},
    ],
)
def test_training_command_parses_into_its_configuration(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(sources=("data/a",), **changes)
    words = shlex.split(training_command(config, {"data/a": "home"}))
    command, found = train.build_command(words[2:]), list[TrainConfig]()
    monkeypatch.setattr(train, "train", lambda config, **others: found.append(config))
    parse("train", command, words[2:])
    target = tuple(ref.replace("data", "build") for ref in config.data.target)
    model = config.model.name.removeprefix("/")
    assert found == [config.replace(sources=("build/home",), target=target, model=model)]
