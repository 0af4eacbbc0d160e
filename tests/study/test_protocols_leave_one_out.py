"""Leave one source out: a labeled domain excluded from training selects the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.result_table import result_rows
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run


@pytest.fixture(scope="module")
def third(make_domain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a third laboratory, brighter than the others."""
    root = tmp_path_factory.mktemp("third")
    return str(make_domain(root / "third", name="third", seed=3, background=(250, 250, 210)))


@pytest.mark.parametrize(
    "how",
    [{}, {"inputs": "features"}, {"normalize_by": "domain", "sharpness": "common"}],
    ids=["images", "features", "treated"],
)
@pytest.mark.slow
@pytest.mark.ci
def test_held_out_domain_selects_weights_and_appears_in_table(
    short: TrainConfig, third: str, tmp_path: Path, how: dict[str, Any]
) -> None:
    config = short.replace(held_out=(third,), selection="held_out", **how)
    record = run(config, tmp_path / "runs", tmp_path / "cache").read_record()
    scores = [row["held_out"]["third"]["macro_f1"] for row in record["history"]]
    assert record["selection"]["sees"] == "no target"
    assert record["selection"]["score"] == max(scores)
    assert record["selection"]["step"] == record["history"][int(np.argmax(scores))]["step"]
    found = result_rows(collect([tmp_path / "runs"]).runs)
    assert [(row.role, row.domain) for row in found if row.split == "test"] == [
        ("target", "away"), ("source", "home"), ("held out", "third"),
    ]  # fmt: skip
    assert compare(collect([tmp_path / "runs"]), num_resamples=10).num_runs == 1


def test_held_out_domain_does_not_affect_preprocessing(
    short: TrainConfig, third: str, tmp_path: Path
) -> None:
    config = short.replace(steps=2, normalize_by="domain", sharpness="common")
    without = run(config, tmp_path / "runs", tmp_path / "cache").read_record()["images"]
    held = config.replace(held_out=(third,))
    images = run(held, tmp_path / "runs", tmp_path / "cache").read_record()["images"]
    assert images["domains"].pop("third") != without["domains"]["away"]
    assert images["domains"] == without["domains"]
    assert (images["rule"], images["pipeline"]) == (without["rule"], without["pipeline"])
