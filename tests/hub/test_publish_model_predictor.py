"""The predictor loads a published model by tag, with its companion files."""

from pathlib import Path

import numpy as np
import pytest
from support.hub_server import LoopbackHub

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.inference.build_gallery import build_reference_set
from hf_wbc.inference.predictor import Predictor


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.slow
@pytest.mark.ci
def test_published_model_matches_local_model(
    hub: LoopbackHub,
    laboratories: tuple[str, str],
    tiny_model: str,
    tmp_path: Path,
    with_reference: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # tested separately
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, learning_rate=1e-2, steps=4)
    trained = run(config, tmp_path / "runs", tmp_path / "cache")
    if with_reference:
        build_reference_set(trained.model, laboratories[:1], per_class=1)
    else:
        trained.predictions.unlink()
    place = parse_destination("lab/model", "model")
    publish(model_publication(trained.path, place, {}, tag="v1"), place)
    here = Predictor.load(str(trained.model), runtime="torch")
    there = Predictor.load("lab/model@v1", runtime="torch")
    cells = [np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)]
    pair = [each.predict(cells, 25 / 40)[0] for each in (here, there)]
    np.testing.assert_array_equal(pair[0].logits, pair[1].logits)
    assert len(there.neighbors(pair[1], 3)) == (3 if with_reference else 0)
    assert (there.held_out is not None) == with_reference
