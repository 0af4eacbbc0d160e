"""Features are extracted in parts: a killed call loses little and resumes to the same bits."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.config import AUGMENTATIONS, TrainConfig
from hf_wbc.data.augment import apply_augmentation
from hf_wbc.data.augment_ops import draw_augmentation_params
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.loader import BatchLoader
from hf_wbc.data.pixel_cache import cache_pixels
from hf_wbc.engine import feature_extraction
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.feature_extraction import FeatureViews
from hf_wbc.engine.features import crop_geometry, embed, features_path, require_features
from hf_wbc.engine.forward import Runtime
from hf_wbc.engine.resolve import resolve, stable_values
from hf_wbc.engine.run import run
from hf_wbc.models import PretrainedModel, load_classifier


@pytest.fixture(scope="module")
def train(laboratories: tuple[str, str]) -> DomainSplit:
    return load_split(laboratories[0], "train")


@pytest.fixture
def backbone(tiny_model: str) -> PretrainedModel:
    return load_classifier(tiny_model)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Save a part after each batch of three images."""
    monkeypatch.setattr(feature_extraction, "SAVE_S", 0.0)
    monkeypatch.setattr(feature_extraction, "batch_size_for", lambda *_: 3)
    yield


class Stop(Exception):
    """Raised to interrupt a call."""


def interrupted(num: int) -> Any:
    """Return a callback that ends the call after `num` images."""

    def report(done: int, total: int) -> None:
        if done >= num:
            raise Stop

    return report


def test_interrupted_call_resumes_to_same_file(
    train: DomainSplit, backbone: PretrainedModel, tmp_path: Path, small_parts: None
) -> None:
    accelerator = make_accelerator()
    embed(backbone, train, tmp_path / "whole", accelerator)
    with pytest.raises(Stop):
        embed(backbone, train, tmp_path / "resumed", accelerator, interrupted(10))
    (partial,) = (tmp_path / "resumed").iterdir()
    parts = {path.name: path.stat().st_mtime_ns for path in partial.glob("*/*.npy")}
    assert len(parts) == 4
    seen: list[int] = []
    embed(backbone, train, tmp_path / "resumed", accelerator, lambda done, _: seen.append(done))
    assert seen[0] == 12 and seen[-1] == len(train)
    (whole,), (resumed,) = ((tmp_path / name).iterdir() for name in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_parts_of_another_batch_size_are_not_used(
    train: DomainSplit,
    backbone: PretrainedModel,
    tmp_path: Path,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Stop):
        embed(backbone, train, tmp_path, make_accelerator(), interrupted(10))
    monkeypatch.setattr(feature_extraction, "batch_size_for", lambda *_: 4)
    seen: list[int] = []
    embed(backbone, train, tmp_path, make_accelerator(), lambda done, _: seen.append(done))
    assert seen[0] == 0


def slow_embed(folder: str, model: str, cache: str) -> None:
    """Embed a training split slowly, saving each batch; runs in a process to be killed."""
    torch.set_num_threads(1)
    feature_extraction.SAVE_S = 0.0
    feature_extraction.batch_size_for = lambda *_: 3
    train, backbone = load_split(folder, "train"), load_classifier(model)
    embed(backbone, train, Path(cache), make_accelerator(), lambda *_: time.sleep(0.2))


def test_killed_process_leaves_parts_for_the_next(
    laboratories: tuple[str, str],
    tiny_model: str,
    train: DomainSplit,
    backbone: PretrainedModel,
    tmp_path: Path,
    small_parts: None,
) -> None:
    arguments = (laboratories[0], tiny_model, str(tmp_path / "killed"))
    process = multiprocessing.get_context("fork").Process(target=slow_embed, args=arguments)
    process.start()
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("killed/*/*/*.npy"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(tmp_path.glob("killed/*.parquet"))
    seen: list[int] = []
    for name in ("killed", "whole"):
        embed(backbone, train, tmp_path / name, make_accelerator(), lambda d, _: seen.append(d))
    assert 9 <= seen[0] < len(train)
    (killed,), (whole,) = ((tmp_path / name).iterdir() for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()


def test_another_runtime_has_separate_file(
    train: DomainSplit, backbone: PretrainedModel, tmp_path: Path
) -> None:
    def features(inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = backbone.classifier(inputs).features
        return found + 1

    with pytest.raises(ValueError, match=r"by other; run `hf-wbc embed` with .* --runtime other"):
        require_features(backbone, train, tmp_path, "other")
    runtime = Runtime("other", "fp32", features, "1", 5)
    found = embed(backbone, train, tmp_path, make_accelerator(), runtime=runtime).chunks[0]
    exact = embed(backbone, train, tmp_path, make_accelerator()).chunks[0]
    np.testing.assert_allclose(found, exact + 1, atol=1e-5)
    again = require_features(backbone, train, tmp_path, "other").chunks[0]
    np.testing.assert_array_equal(again, found)
    assert len(list(tmp_path.iterdir())) == 2


def test_views_are_features_of_augmented_images_for_any_batch_size(
    train: DomainSplit, backbone: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = FeatureViews(3, AUGMENTATIONS["robust"])
    table = embed(backbone, train, tmp_path, make_accelerator(), views=views)
    assert table.shape == (3, backbone.classifier.num_features) and table.num_views == 3
    pixels = cache_pixels(train, crop_geometry(backbone))
    preprocessing, rows = backbone.preprocessing, np.array([0, 7, len(train) - 1])
    for view in range(3):
        draws = draw_augmentation_params(len(train), torch.Generator().manual_seed(view))
        images = apply_augmentation(
            pixels.batch(rows), draws[rows], views.augmentation, preprocessing.mean,
            preprocessing.std,
        )  # fmt: skip
        with torch.no_grad():
            expected = backbone.classifier.eval()(images).features
        torch.testing.assert_close(table.batch(rows)[:, view], expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(feature_extraction, "batch_size_for", lambda *_: 4)
    again = embed(backbone, train, tmp_path / "again", make_accelerator(), views=views)
    np.testing.assert_allclose(again.chunks[0], table.chunks[0], atol=1e-5)


def test_each_view_count_and_augmentation_has_separate_file(
    train: DomainSplit, backbone: PretrainedModel, tmp_path: Path
) -> None:
    wanted = [
        None,
        *(FeatureViews(n, AUGMENTATIONS[name]) for n in (2, 3) for name in ("robust", "light")),
    ]
    assert len({features_path(backbone, train, tmp_path, views=views) for views in wanted}) == 5


METHODS = [
    name
    for name, method in ((name, load_method(name)) for name in method_names())
    if not method.needs.images and method.needs.num_sources < 2
]


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in ("fixmatch", "shot") else pytest.mark.slow)
     for name in METHODS],
)  # fmt: skip
@pytest.mark.slow
@pytest.mark.ci
def test_method_on_features_trains_on_views(
    method: str, laboratories: tuple[str, str], tiny_model: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home, away = laboratories
    config = TrainConfig(
        sources=(home,), target=(away,), model=tiny_model, inputs="features", method=method,
        feature_views=2, steps=2, batch_size=22, eval_steps=2,
        bottleneck=0 if load_method(method).closed_form else 8,
    )  # fmt: skip
    read: list[torch.Tensor] = []
    draw = BatchLoader._features

    def kept(self: BatchLoader, features: torch.Tensor, key: Any) -> torch.Tensor:
        read.append(features)
        return draw(self, features, key)

    monkeypatch.setattr(BatchLoader, "_features", kept)
    cache = tmp_path / "cache"
    record = run(config, tmp_path / "runs", cache).read_record()
    assert record["config"]["model"]["feature_views"] == 2
    assert read and all(features.shape[1:] == (2, 16) for features in read)
    tables = [pq.read_table(path)["features"] for path in cache.glob("*.parquet")]
    assert (
        sorted(pa.types.is_fixed_size_list(t.type.value_type) for t in tables)
        == [False] * 6 + [True] * 2
    )


def test_feature_runtime_is_part_of_run_name(
    laboratories: tuple[str, str], backbone: PretrainedModel, tiny_model: str, tmp_path: Path
) -> None:
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, inputs="features", steps=1)
    assert not {"feature_runtime", "feature_views"} & stable_values(config).keys()
    exact, other = config.replace(feature_runtime="torch"), config.replace(feature_runtime="onnx")
    names = [resolve(each).name for each in (config, exact, other, config.replace(feature_views=1))]
    assert names[0] == names[1] and len({*names}) == 3
    with pytest.raises(ValueError, match=r"run `hf-wbc embed` with --cache .* --runtime onnx"):
        run(other, tmp_path / "runs", tmp_path)

    def features(inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = backbone.classifier(inputs).features
        return found

    runtime = Runtime("onnx", "fp32", features, "1", 5)
    for num, split in enumerate(("train", "validation", "test")):
        assert resolve(config, cache=tmp_path).name == names[0], num
        embed(backbone, load_split(laboratories[0], split), tmp_path, make_accelerator(),
              runtime=runtime)  # fmt: skip
    assert resolve(config, cache=tmp_path).name == names[2]
    assert resolve(exact, cache=tmp_path).name == names[0]


@pytest.mark.parametrize("changes", [{"feature_views": 2}, {"feature_runtime": "onnx"}])
def test_feature_options_require_feature_inputs(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"feature_.* is .*, which needs --inputs features"):
        TrainConfig(sources=("a",), **changes)
