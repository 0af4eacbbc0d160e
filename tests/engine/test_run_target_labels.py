"""Target labels never influence a method, rule, or estimate."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.engine.run import run

SLOW = (pytest.mark.slow, pytest.mark.ci)
TELLING = ("coral", "iw_dann", "mstn", "shot", "mic")
"""One method of each way to use the target; the others are slow tests."""
TARGETED = [
    pytest.param(name, marks=() if name in TELLING else SLOW)
    for name in method_names()
    if load_method(name).sees_target()
]


@pytest.fixture(scope="module")
def poisoned(laboratories: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the target with every label shifted by three classes."""
    folder = tmp_path_factory.mktemp("poisoned") / "away"
    shutil.copytree(laboratories[1], folder)
    for file in folder.glob("*/*.parquet"):
        table = pq.read_table(file)
        column = table.schema.get_field_index("label")
        wrong = (table["label"].to_numpy() + 3) % 11
        changed = table.set_column(column, table.schema.field("label"), pa.array(wrong))
        pq.write_table(changed, file)
    return str(folder)


def outcome(config: TrainConfig, root: Path, cache: Path) -> tuple[Any, ...]:
    """Return everything that a run decides: weights, evaluations, and estimated priors."""
    folder = run(config, root, cache)
    record = folder.read_record()
    priors = {
        kind: record["label_shift"]["away"][kind]["priors"] for kind in ("bbse", "em", "rlls")
    }
    return load_file(folder.model / "model.safetensors"), folder.read_history(), priors


@pytest.mark.parametrize("name", TARGETED)
def test_shifted_target_labels_change_nothing(
    config: TrainConfig, poisoned: str, tmp_path: Path, shared_runs: Path, name: str
) -> None:
    images = load_method(name).needs.images
    short = config.replace(
        method=name,
        inputs="images" if images else "features",
        steps=2,
        # shot adapts after its first pass; two steps are 0.7 of a pass.
        adapt_steps=4 if load_method(name).adapt_passes else None,
        selection="im_prior",
        correct_priors="em",
        ema=0.0,
    )
    cache = shared_runs / "cache"
    weights, history, priors = outcome(short, tmp_path / "true", cache)
    others = outcome(short.replace(target=(poisoned,)), tmp_path / "poisoned", cache)
    assert others[1] == history and others[2] == priors
    for key, values in weights.items():
        np.testing.assert_array_equal(others[0][key], values, err_msg=key)


@pytest.mark.parametrize("selection", [pytest.param("source_val", marks=SLOW), "im_prior"])
def test_only_the_oracle_sees_target_labels(
    config: TrainConfig, poisoned: str, tmp_path: Path, shared_runs: Path, selection: Any
) -> None:
    """Weights, evaluations, and all other rules are the same as with shifted labels."""
    asked = config.replace(method="dann", inputs="features", oracle=True, selection=selection,
        correct_priors="em", ema=0.0,
    )  # fmt: skip
    cache = shared_runs / "cache"
    weights, history, priors = outcome(asked, tmp_path / "true", cache)
    others = outcome(replace(asked, target=(poisoned,)), tmp_path / "poisoned", cache)
    assert [without_oracle(row) for row in others[1]] == [without_oracle(row) for row in history]
    assert others[1] != history and others[2] == priors
    for key, values in weights.items():
        np.testing.assert_array_equal(others[0][key], values, err_msg=key)


def without_oracle(values: Any) -> Any:
    """Remove the oracle's values from a row of the history, at any depth."""
    if not isinstance(values, dict):
        return values
    return {key: without_oracle(value) for key, value in values.items() if key != "oracle"}


def test_shifted_labels_change_the_oracle(
    config: TrainConfig, poisoned: str, tmp_path: Path, shared_runs: Path
) -> None:
    """Otherwise the test above could not fail."""
    short = config.replace(oracle=True, inputs="features", ema=0.0)
    scores = [
        run(short.replace(target=(ref,)), tmp_path, shared_runs / "cache").read_history()[-1][
            "oracle"
        ]
        for ref in (config.data.target[0], poisoned)
    ]
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    "style",
    [
        "reinhard",
        *(
            pytest.param(style, marks=SLOW)
            for style in ("colours", "macenko", "histogram", "fourier")
        ),
    ],
)
def test_target_styles_use_only_images(
    config: TrainConfig, poisoned: str, tmp_path: Path, shared_runs: Path, style: Any
) -> None:
    moved = Augmentation(target_shift=0.5, target_style=style)
    short = config.replace(augmentation=moved, steps=2, ema=0.0)
    weights, history, _ = outcome(short, tmp_path / "true", shared_runs / "cache")
    others = outcome(
        short.replace(target=(poisoned,)), tmp_path / "poisoned", shared_runs / "cache"
    )
    assert others[1] == history
    for key, values in weights.items():
        np.testing.assert_array_equal(others[0][key], values, err_msg=key)
