"""`hf-wbc label`, `accept` and `drift`: from no labels to a saved model and a report."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hf_wbc.cli.main import main
from hf_wbc.models import load_classifier, load_trained, save_classifier
from hf_wbc.taxonomy import NAMES

SMALL = ("--runtime", "torch", "--num-proc", "1")


@pytest.fixture(scope="module")
def laboratory(
    tiny_model: str, make_domain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Return an untrained model, and a prepared folder of five cells of each class to label."""
    folder = tmp_path_factory.mktemp("laboratory")
    loaded = load_classifier(tiny_model)
    save_classifier(loaded.classifier, loaded.processor, folder / "model")
    counts = {"train": 5, "validation": 1, "test": 1}
    make_domain(folder / "my_lab", name="my_lab", num_per_class=counts)
    return str(folder / "model"), str(folder / "my_lab")


def said_by_the_page(sheet: Path, path: Path) -> Path:
    """Answer every cell of a page as its name says, as a browser saves it."""
    ids = re.findall(r'data-id="([^"]+)"', sheet.read_text())
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "label", "reader", "seconds"))
        for image_id in ids:
            label = re.sub(r"^my_lab_[a-z]+_(\w+)_\d+\.png$", r"\1", image_id)
            writer.writerow((image_id, label, "AB", "1.5"))
    return path


def test_labeling_starts_without_labels_and_ends_with_model_and_report(
    laboratory: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = laboratory
    out, cache = tmp_path / "labels.csv", str(tmp_path / "cache")
    common = [model, folder, "--cache", cache, *SMALL]
    labeling = ["label", *common, "--out", str(out), "--budget", "44", "--batch", "22"]
    assert main([*labeling, "--save", str(tmp_path / "early")]) == 0
    assert "not written yet" in capsys.readouterr().out and not (tmp_path / "early").exists()
    first = said_by_the_page(out.with_suffix(".html"), tmp_path / "first.csv")
    assert main([*labeling, "--add", str(first)]) == 0
    assert len(out.read_text().splitlines()) == 23
    second = said_by_the_page(out.with_suffix(".html"), tmp_path / "second.csv")
    capsys.readouterr()
    assert main([*labeling, "--add", str(second), "--save", str(tmp_path / "adapted")]) == 0
    printed = capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 45
    assert "macro-F1 without labels" in printed and "macro-F1 with labels" in printed
    adapted = load_trained(str(tmp_path / "adapted"))
    assert adapted.exposed_to == ("my_lab",) and adapted.abstention is not None
    facts = json.loads((tmp_path / "adapted" / "labeling.json").read_text())
    assert sum(facts["num_labels"].values()) == 44 and facts["readers"] == ["AB"]
    assert facts["strategy"] == "typical_then_margin" and facts["head"] == "logistic"
    report = tmp_path / "acceptance"
    accepting = ["--labels", str(out), "--out", str(report)]
    assert main(["accept", *common, *accepting, "--adapted"]) in (3, 4)
    assert json.loads((report / "acceptance.json").read_text())["num_labels"] == 44
    assert main(["accept", str(tmp_path / "adapted"), *common[1:], *accepting]) == 1
    assert "--adapted" in capsys.readouterr().err
    drifting = ["drift", *common, "--baseline", str(report / "baseline.npz")]
    assert main([*drifting, "--out", str(tmp_path / "drift.json")]) == 0
    assert json.loads((tmp_path / "drift.json").read_text())["alarm"] is False


def test_saved_model_matches_learner(laboratory: tuple[str, str], tmp_path: Path) -> None:
    import hf_wbc

    model, folder = laboratory
    learner = hf_wbc.label(model, folder, cache=tmp_path)
    stated = dict(zip(learner.pool.image_ids, learner.pool.labels.tolist(), strict=True))
    names = learner.next(50)
    learner.tell(names, [stated[name] for name in names])
    saved = load_trained(str(learner.save(tmp_path / "adapted"))).classifier.head
    weight = saved.weight.detach().numpy().astype(np.float64)
    logits = learner.pool.features @ weight.T + saved.bias.detach().numpy()
    assert (logits.argmax(1) == learner.decision_function().argmax(1)).all()


def test_terminal_prompts_cell_by_cell(
    laboratory: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["m", "nonsense", "u", "Band neutrophil", "k", "q"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    out, (model, folder) = tmp_path / "labels.csv", laboratory
    assert main(["label", model, folder, "--out", str(out), "--cache", str(tmp_path), *SMALL]) == 0
    lines = [line.split(",")[1] for line in out.read_text().splitlines()[1:]]
    assert lines == ["neutrophil_banded", "skip"]


def test_added_file_that_contradicts_the_labels_changes_nothing(
    laboratory: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (model, folder) = tmp_path / "labels.csv", laboratory
    labeling = ["label", model, folder, "--out", str(out), "--cache", str(tmp_path), *SMALL]
    assert main(labeling) == 0
    first = said_by_the_page(out.with_suffix(".html"), tmp_path / "first.csv")
    assert main([*labeling, "--add", str(first)]) == 0
    written, lines = out.read_bytes(), first.read_text().splitlines()
    name, old = lines[-1].split(",")[:2]
    new = next(each for each in NAMES if each != old)
    others = said_by_the_page(out.with_suffix(".html"), tmp_path / "second.csv")
    others.write_text(others.read_text() + f"lab/{name},{new},AB,1.0\n")
    capsys.readouterr()
    assert main([*labeling, "--add", str(others)]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in (name, new, old)) and out.read_bytes() == written


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--budget", "500"], ("500", "66")),
        (["--budget", "0"], ("--budget is 0", "66")),
        (["--strategy", "margins"], ("margin",)),
        (["--out", "labels.txt"], (".csv",)),
        (["another_folder"], ("2 folders", "--simulate")),
    ],
)
def test_misuse_is_reported(
    laboratory: tuple[str, str],
    tmp_path: Path,
    more: list[str],
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["label", *laboratory, *more, "--cache", str(tmp_path), *SMALL]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_default_budget_is_at_most_all_cells(
    laboratory: tuple[str, str],
    make_domain: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = {"train": 1, "validation": 1, "test": 1}
    make_domain(tmp_path / "few", name="few", num_per_class=counts)
    common = ["--out", str(tmp_path / "labels.csv"), "--cache", str(tmp_path), *SMALL]
    assert main(["label", laboratory[0], str(tmp_path / "few"), *common]) == 0
    assert "0 of 22 are done" in capsys.readouterr().out


def test_simulated_readers_print_learning_curve(
    laboratory: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulating = ["--simulate", "--seeds", "1", "--budgets", "20", "--strategies", "random"]
    assert main(["label", *laboratory, *simulating, "--cache", str(tmp_path), *SMALL]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| my_lab | random | logistic | 20 |")


LATE = {
    "label: merge": (["label", "--merge", "a=b"], "unknown class"),
    "label: strategy": (["label", "--strategy", "absent"], "absent"),
    "label: add": (["label", "--add", "absent.csv"], "absent.csv"),
    "label: export": (["label", "--export", "cells.txt"], "cells.txt"),
    "simulate: strategy": (["label", "--simulate", "--strategies", "absent"], "absent"),
    "accept: labels": (["accept", "--labels", "absent.json"], "absent.json"),
    "accept: merge": (["accept", "--labels", "labels.csv", "--merge", "a=b"], "unknown class"),
}


@pytest.mark.parametrize("name", LATE)
def test_wrong_arguments_are_refused_before_cells_are_embedded(
    name: str,
    laboratory: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def embed(*args: object, **options: object) -> None:
        raise AssertionError("the cells were embedded")

    monkeypatch.setattr("hf_wbc.cli.label_session.open_pool", embed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("image_id,label,reader,seconds\n")
    (command, *flags), said = LATE[name]
    assert main([command, *laboratory, *flags, "--cell-fills-frame"]) == 1
    assert said in capsys.readouterr().err
