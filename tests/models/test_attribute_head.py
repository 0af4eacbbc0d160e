"""The attribute head learns, is saved next to a model, and rejects damaged files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_wbc.models.attribute_head import ATTRIBUTES_FILE, AttributeHead, fit_attributes

VALUES = {"shape": ("round", "lobed", "band"), "vacuole": ("no", "yes")}


@pytest.fixture(scope="module")
def fitted() -> tuple[AttributeHead, np.ndarray, dict[str, np.ndarray]]:
    """Fit a head to features that hold both attributes."""
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, len(each), 300) for name, each in VALUES.items()}
    features = np.concatenate([3 * np.eye(3)[codes["shape"]], 3 * np.eye(2)[codes["vacuole"]]], 1)
    features = (features + rng.normal(0, 0.3, features.shape)).astype("f4")
    codes["vacuole"][:200] = -1  # mostly unknown
    return fit_attributes(features, codes, VALUES), features, codes


def test_each_attribute_is_a_distribution_over_its_values(
    fitted: tuple[AttributeHead, np.ndarray, dict[str, np.ndarray]],
) -> None:
    head, features, codes = fitted
    found = head.predict(features)
    assert {name: each.shape for name, each in found.items()} == {
        "shape": (300, 3),
        "vacuole": (300, 2),
    }
    assert found["shape"].sum(1) == pytest.approx(1, abs=1e-5)
    assert (found["shape"].argmax(1) == codes["shape"]).mean() > 0.98
    known = codes["vacuole"] >= 0
    assert (found["vacuole"].argmax(1) == codes["vacuole"])[known].mean() > 0.95


def test_saved_head_round_trips_and_wrong_file_is_reported(
    fitted: tuple[AttributeHead, np.ndarray, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    head, features, _ = fitted
    assert AttributeHead.load(tmp_path, 5) is None
    head = replace(head, facts={"reliable": ["shape"]})
    head.save(tmp_path)
    again = AttributeHead.load(tmp_path, 5)
    assert again is not None and again.reliable == ("shape",) and again.values == head.values
    for name, each in again.predict(features).items():
        assert each == pytest.approx(head.predict(features)[name], abs=0.02)
    assert again.hidden_weight is not None and head.hidden_weight is not None
    torch.testing.assert_close(again.hidden_weight, head.hidden_weight)  # scored as it is saved
    with pytest.raises(ValueError, match="belongs to another model"):
        AttributeHead.load(tmp_path, 6)
    replace(head, has_stages=True).save(tmp_path)
    assert AttributeHead.load(tmp_path, 4, lambda: 5) is not None
    with pytest.raises(ValueError, match="belongs to another model"):
        AttributeHead.load(tmp_path, 5, lambda: 6)
    replace(head, hidden_bias=torch.zeros(3)).save(tmp_path)
    with pytest.raises(ValueError, match="belongs to another model"):
        AttributeHead.load(tmp_path, 5)
    (tmp_path / ATTRIBUTES_FILE).write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        AttributeHead.load(tmp_path, 5)


@pytest.mark.parametrize(
    "facts",
    [
        {"reliable": ["shape", "unknown"]},
        {"reliable": 3},
        {"reliable": [["shape"]]},
        {"typical": []},
        {"typical": {"monocyte": {"shape": [0.5]}}},
        {"typical": {"monocyte": {"shape": {"round": "half"}}}},
    ],
)
def test_facts_that_cannot_be_shown_are_reported(
    fitted: tuple[AttributeHead, np.ndarray, dict[str, np.ndarray]],
    tmp_path: Path,
    facts: dict[str, object],
) -> None:
    AttributeHead(VALUES, fitted[0].weight, fitted[0].bias, facts).save(tmp_path)
    with pytest.raises(ValueError, match=f"{ATTRIBUTES_FILE} is damaged"):
        AttributeHead.load(tmp_path, 5)


def test_weights_that_are_no_numbers_are_reported(
    fitted: tuple[AttributeHead, np.ndarray, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    AttributeHead(VALUES, fitted[0].weight * float("nan"), fitted[0].bias, {}).save(tmp_path)
    with pytest.raises(ValueError, match="finite"):
        AttributeHead.load(tmp_path, 5)


def test_file_of_an_earlier_release_without_hidden_layer_is_read(tmp_path: Path) -> None:
    features = np.eye(5, dtype="f4")
    old = AttributeHead(VALUES, 9 * torch.eye(5), torch.zeros(5), {})
    old.save(tmp_path)
    again = AttributeHead.load(tmp_path, 5)
    assert again is not None and again.hidden_weight is None and not again.has_stages
    assert again.predict(features)["shape"].argmax(1).tolist()[:3] == [0, 1, 2]


def test_attributes_that_no_linear_head_can_learn_are_learned() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (600, 2))
    features = (signs + rng.normal(0, 0.1, signs.shape)).astype("f4")
    codes = {"vacuole": (signs.prod(1) > 0).astype(np.int64)}
    head = fit_attributes(features, codes, {"vacuole": ("no", "yes")})
    assert (head.predict(features)["vacuole"].argmax(1) == codes["vacuole"]).mean() > 0.95
    again = fit_attributes(features, codes, {"vacuole": ("no", "yes")})
    assert (again.weight == head.weight).all(), "the same cells give the same head"
