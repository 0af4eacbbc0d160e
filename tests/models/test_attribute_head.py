"""The attribute head learns, is saved next to a model, and rejects damaged files."""

from pathlib import Path

import numpy as np
import pytest

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
    head = AttributeHead(head.values, head.weight, head.bias, {"reliable": ["shape"]})
    head.save(tmp_path)
    again = AttributeHead.load(tmp_path, 5)
    assert again is not None and again.reliable == ("shape",) and again.values == head.values
    for name, each in again.predict(features).items():
        assert each == pytest.approx(head.predict(features)[name], abs=0.02)
    with pytest.raises(ValueError, match="belongs to another model"):
        AttributeHead.load(tmp_path, 6)
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
