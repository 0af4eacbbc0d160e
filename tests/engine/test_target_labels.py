"""A run trains on a few labels of the target: counted, named by content, never of test images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import load_split
from hf_wbc.data.labels_file import note_strategy
from hf_wbc.engine.resolve import resolve
from hf_wbc.engine.run import run
from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import NAMES

SLOW = (pytest.mark.slow, pytest.mark.ci)


def away(split: str, cell: str, number: int) -> str:
    return f"away_{split}_{cell}_{number}.png"


def write_labels(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = [f"{image_id},{label},{reader},1.0" for image_id, label, reader in rows]
    path.write_text("\n".join(["image_id,label,reader,seconds", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Write labels of 22 training images and of one validation image, and two other answers."""
    rows = [(away("train", cell, number), cell, "AB") for number in (0, 1) for cell in NAMES]
    rows += [
        (away("validation", "monocyte", 0), "monocyte", "AB"),
        (away("train", "monocyte", 2), "skip", "AB"),
        (away("train", "monocyte", 3), "other", "CD"),
    ]
    path = write_labels(tmp_path / "my.labels.csv", rows)
    note_strategy(path, "margin")
    return path


def with_labels(config: TrainConfig, labels: Path, **changes: Any) -> TrainConfig:
    return config.replace(inputs="features", ema=0.0, target_labels=str(labels), **changes)


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    return load_file(folder.model / "model.safetensors")


@pytest.mark.slow
@pytest.mark.ci
def test_record_describes_the_target_labels(
    config: TrainConfig, labels: Path, tmp_path: Path, shared_runs: Path
) -> None:
    folder = run(with_labels(config, labels), tmp_path / "runs", shared_runs / "cache")
    record = folder.read_record()
    found = record["target_labels"]
    assert (found["num"], found["num_validation"]) == (22, 1)
    assert found["num_per_class"] == dict.fromkeys(NAMES, 2)
    assert (found["strategy"], found["readers"]) == ("margin", ["AB"])
    assert any("validation images" in note for note in record["notes"])
    assert all("target_labels" in row["loss"] for row in folder.read_history())
    scores = record["results"]["away"]
    assert scores["test"]["num_images"] == 22 and scores["transductive"]["num_images"] == 88 - 22
    assert '"away"' in (folder.model / "config.json").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.ci
def test_target_labels_raise_score_according_to_weight(
    config: TrainConfig, labels: Path, tmp_path: Path, shared_runs: Path
) -> None:
    longer = config.replace(
        steps=60, eval_steps=60, gradient_accumulation_steps=1, batch_size=22, bottleneck=0
    )  # without BatchNorm, whose statistics see all samples alike
    scores = {}
    for name, changes in {
        "none": {"target_label_budget": 0},
        "some": {},
        "tiny weight": {"target_label_weight": 1e-6},
    }.items():
        asked = with_labels(longer, labels, **changes)
        record = run(asked, tmp_path / "runs", shared_runs / "cache").read_record()
        scores[name] = record["results"]["away"]["test"]["macro_f1"]
    assert scores["some"] > scores["none"] + 0.1
    assert abs(scores["tiny weight"] - scores["none"]) < 0.1


@pytest.mark.slow
@pytest.mark.ci
def test_only_labels_from_the_file_are_used(
    config: TrainConfig, labels: Path, make_domain: Callable[..., Path], tmp_path: Path
) -> None:
    """The same images without any label of their own give the same weights."""
    make_domain(tmp_path / "blank", name="away", seed=2, background=(180, 200, 240), labeled=False)
    asked = with_labels(config, labels, steps=2)
    one = weights(run(asked, tmp_path / "known", tmp_path / "cache"))
    blank = asked.replace(target=(str(tmp_path / "blank"),))
    other = weights(run(blank, tmp_path / "unknown", tmp_path / "cache"))
    for name, values in one.items():
        np.testing.assert_array_equal(other[name], values, err_msg=name)


@pytest.mark.slow
@pytest.mark.ci
def test_run_name_depends_on_label_content(
    config: TrainConfig, labels: Path, tmp_path: Path
) -> None:
    def name(path: Path, **changes: Any) -> str:
        return resolve(with_labels(config, path, **changes)).name

    first, text = name(labels), labels.read_text(encoding="utf-8")
    moved = tmp_path / "elsewhere.csv"
    moved.write_text(text.replace("1.0", "2.5"), encoding="utf-8")  # another time, the same labels
    note_strategy(moved, "margin")
    assert name(moved) == first
    changed = {
        "a label": text.replace("monocyte_0.png,monocyte", "monocyte_0.png,basophil"),
        "a reader": text.replace("AB", "EF"),
        "a line less": text.replace(f"{away('train', 'basophil', 1)},basophil,AB,1.0\n", ""),
    }  # fmt: skip
    names = {first, name(labels, target_label_budget=11), name(labels, target_label_weight=0.5)}
    for what, lines in changed.items():
        assert lines != text, what
        moved.write_text(lines, encoding="utf-8")
        names.add(name(moved))
    note_strategy(moved, "random")
    names.add(name(moved))
    assert len(names) == 3 + len(changed) + 1
    plain = config.replace(inputs="features", ema=0.0)
    assert name(labels, target_label_budget=0) == resolve(plain).name


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        ([(away("test", "monocyte", 0), "monocyte", "")], {}, ("test cells", "remove")),
        ([("other.png", "monocyte", "")], {}, ("another dataset",)),
        ([("other.png", "monocyte", ""), (away("train", "monocyte", 0), "monocyte", "")], {},
         ("other.png", "away lacks")),
        ([(away("train", "monocyte", 0), "monocite", "")], {}, ("line 2", "monocyte")),
        ([(away("train", "monocyte", 0), "skip", "")], {}, ("no label",)),
        ([(away("validation", "monocyte", 0), "monocyte", "")], {}, ("validation", "no label")),
        ([(away("train", "monocyte", 0), "monocyte", "A"),
          (away("train", "monocyte", 0), "basophil", "B")], {}, ("disagree",)),
        ([(away("train", "monocyte", 0), "monocyte", "")], {"target_label_budget": 2},
         ("budget", "1 label")),
    ],
)  # fmt: skip
def test_unusable_labels_are_refused(
    config: TrainConfig,
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    changes: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    path = write_labels(tmp_path / "l.csv", rows)
    with pytest.raises(ValueError, match=r".") as caught:
        resolve(with_labels(config, path, **changes))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_labels_file_is_reported(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hf-wbc label"):
        resolve(with_labels(config, tmp_path / "none.csv"))


def test_target_labels_require_one_target(config: TrainConfig, labels: Path) -> None:
    with pytest.raises(ValueError, match="--target"):
        with_labels(config, labels, target=())


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("num", [2, 3])
def test_class_missing_from_source_is_enabled_by_three_labels(
    config: TrainConfig, make_domain: Callable[..., Path], tmp_path: Path, num: int
) -> None:
    healthy = tuple(name for name in NAMES if name != "myeloblast")
    make_domain(tmp_path / "healthy", name="healthy", seed=3, classes=healthy)
    rows = [(away("train", "myeloblast", number), "myeloblast", "") for number in range(num)]
    rows += [(away("train", "monocyte", number), "monocyte", "") for number in range(4)]
    asked = with_labels(
        config, write_labels(tmp_path / "l.csv", rows), sources=(str(tmp_path / "healthy"),)
    )
    folder = run(asked, tmp_path / "runs", tmp_path / "cache")
    record, blast = folder.read_record(), NAMES.index("myeloblast")
    is_open = weights(folder)["classifier.bias"][blast] > NEVER / 2
    assert is_open == (num == 3) and record["target_labels"]["num"] == (7 if num == 3 else 4)
    assert any("myeloblast has 2 labels" in note for note in record["notes"]) == (num == 2)


@pytest.mark.parametrize(
    ("inputs", "method"),
    [("features", "dann"), *(pytest.param(i, "shot", marks=SLOW) for i in ("images", "features"))],
)
def test_interrupted_run_resumes_to_same_weights(
    config: TrainConfig, labels: Path, tmp_path: Path, interrupt: Callable[..., None],
    inputs: Any, method: str,
) -> None:  # fmt: skip
    asked = with_labels(config, labels, method=method).replace(inputs=inputs)
    whole = run(asked, tmp_path / "whole", tmp_path / "cache")
    interrupt(3, asked, tmp_path / "halves", tmp_path / "cache")
    halves = run(asked, tmp_path / "halves", tmp_path / "cache")
    for name, values in weights(whole).items():
        np.testing.assert_array_equal(weights(halves)[name], values, err_msg=name)


@pytest.mark.parametrize(
    "method", ["lda", *(pytest.param(m, marks=SLOW) for m in ("mstn", "iw_dann", "tent"))]
)
def test_labels_affect_other_kinds_of_methods(
    config: TrainConfig, labels: Path, tmp_path: Path, shared_runs: Path, method: str
) -> None:  # fmt: skip
    asked = with_labels(config, labels, method=method)
    one, other = (
        weights(run(each, tmp_path / "runs", shared_runs / "cache"))
        for each in (asked, asked.replace(target_labels=None))
    )
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_fixture_image_ids_exist(config: TrainConfig) -> None:
    assert away("train", "monocyte", 3) in load_split(config.data.target[0], "train").image_ids
