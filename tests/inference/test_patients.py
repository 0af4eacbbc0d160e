"""Patients: their table, the two heads, and the errors for bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hf_wbc.inference.patients import HEADS, cross_validate, join_bags, read_patient_labels
from hf_wbc.models.gated_attention import GatedAttention

RNG = np.random.default_rng(0)


def cohort(num: int = 16, cells: int = 12) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Draw patients; of the sick ones, one cell in four is shifted far away."""
    labels = {f"p{i:02}": "sick" if i % 2 else "well" for i in range(num)}
    features, groups = [], []
    for patient, label in labels.items():
        values = RNG.normal(size=(cells, 8))
        values[: cells // 4] += 4 if label == "sick" else 0
        features.append(values)
        groups += [patient] * cells
    return np.concatenate(features).astype("f4"), groups, labels


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.slow
@pytest.mark.ci
def test_head_detects_unseen_sick_patients(head: str) -> None:
    features, groups, labels = cohort()
    bags = join_bags(features, groups, labels, "lab")
    found = cross_validate(bags, head)
    assert found["num_folds"] == 5 and found["scores"]["auroc"] > 0.9
    low, high = found["intervals"]["accuracy"]
    assert low <= found["scores"]["accuracy"] <= high
    values = np.array([each["sick"] for each in found["patients"].values()])
    expected = roc_auc_score([label == "sick" for label in labels.values()], values)
    assert found["scores"]["auroc"] == pytest.approx(expected)


def test_shuffled_labels_are_not_predicted() -> None:
    features, groups, labels = cohort()
    shuffled = {p: ("sick", "well")[i // 2 % 2] for i, p in enumerate(labels)}
    bags = join_bags(features, groups, shuffled, "lab")
    chance = cross_validate(bags, "mean")
    assert chance["scores"]["auroc"] < 0.8 and cross_validate(bags, "mean") == chance


def test_attention_weights_sum_to_one_over_cells() -> None:
    network = GatedAttention(6, 3).eval()
    logits, weights = network(torch.randn(9, 6))
    assert logits.shape == (3,) and float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert (weights > 0).all()


def test_table_contains_class_shares_of_cells() -> None:
    bags = join_bags(
        np.zeros((6, 2)), list("aabbcd"), {"a": "x", "b": "y", "c": "x", "d": "y"}, "l"
    )
    rows = bags.table(np.array([0, 9, 9, -1, -1, 1]))
    assert [row["num_cells"] for row in rows] == [2, 2, 1, 1]
    assert rows[0]["basophil"] == rows[0]["monocyte"] == 0.5 and rows[1]["monocyte"] == 1
    assert rows[2]["monocyte"] == "" and list(rows[0]) == list(rows[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("group,labels\na,x\n", "no column label"),
        ("group,label\na,x\nb,\n", "line 3: group or label is empty"),
        ("group,label\na,x\nb,y\na,y\n", "line 4: patient a is 'y' here and 'x' above"),
        ("group,label\n", "names no patient"),
        ("group,label\na,x\nb\n", "line 3: 1 cells in a table of 2 columns"),
    ],
)
def test_damaged_table_is_reported_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "patients.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_patient_labels(tmp_path / "patients.csv")
    with pytest.raises(OSError, match=r"nothing\.csv"):
        read_patient_labels(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("groups", "labels", "said"),
    [
        ([None] * 4, {"a": "x", "b": "y"}, "has no groups"),
        (list("abab"), {"a": "x", "b": "y", "z": "y"}, r"1 of 3 patients have no cells in lab: z"),
        (list("abab"), {"a": "x", "b": "x"}, "all patients have the label 'x'"),
        (list("abcc"), {"a": "x", "b": "x", "c": "y"}, "label 'y' has 1 patient"),
    ],
)
def test_unusable_patients_are_reported(
    groups: list[str | None], labels: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        join_bags(np.zeros((4, 2)), groups, labels, "lab")


def test_groups_without_a_label_are_skipped_and_listed() -> None:
    labels = {"a": "x", "b": "y", "c": "x", "d": "y"}
    bags = join_bags(np.zeros((5, 2)), list("abcde"), labels, "lab")
    assert bags.unlabeled == ("e",) and len(bags.patients) == 4
