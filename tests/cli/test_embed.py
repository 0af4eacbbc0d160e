"""`hf-wbc embed` computes backbone features once; training on features reads its output."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hf_wbc.cli.main import main
from hf_wbc.records import RunFolder


def embed(model: str, cache: Path, *data: str, runtime: str = "torch") -> int:
    return main(["embed", model, *data, "--cache", str(cache), "--runtime", runtime])


def times(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}


def test_each_split_is_embedded_once_and_used_in_training(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    home, away = laboratories
    cache = tmp_path / "cache"
    assert embed(tiny_model, cache, home, away) == 0
    before = times(cache)
    assert sorted(name.partition("-")[0] for name in before) == ["away"] * 3 + ["home"] * 3
    assert embed(tiny_model, cache, home) == 0
    words = f"--sources {home} --target {away} --model {tiny_model} --inputs features".split()
    places = f"--cache {cache} --out {tmp_path}/runs".split()
    assert main(["train", *words, *places, "--steps", "2", "--eval-steps", "1",
                 "--bottleneck", "0"]) == 0  # fmt: skip
    assert times(cache) == before
    (run,) = (tmp_path / "runs").iterdir()
    assert RunFolder(run).read_record()["config"]["model"]["trainable"] == "frozen"
    known = {
        row["image_id"]: row["features"]
        for path in cache.iterdir()
        for row in pq.read_table(path).to_pylist()
    }
    kept = pq.read_table(run / "features.parquet").to_pylist()
    assert len(kept) == 66
    for row in kept:
        np.testing.assert_array_equal(row["features"], known[row["image_id"]])


def test_features_are_input_of_model_head(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    """Compare with plain transformers: the first token after the final norm, from the images."""
    import torch
    from datasets import load_dataset
    from transformers import AutoImageProcessor, ViTForImageClassification

    assert embed(tiny_model, tmp_path, laboratories[0]) == 0
    images = load_dataset(laboratories[0], split="validation")
    processor = AutoImageProcessor.from_pretrained(tiny_model)
    model = ViTForImageClassification.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        pixels = processor(images["image"][:], return_tensors="pt")["pixel_values"]
        expected = model.vit(pixels).last_hidden_state[:, 0].numpy()
    tables = [pq.read_table(path) for path in tmp_path.glob("home-*.parquet")]
    (found,) = [t for t in tables if t["image_id"].to_pylist() == images["image_id"][:]]
    np.testing.assert_allclose(found["features"].to_pylist(), expected, atol=1e-5)


def test_other_weights_or_image_size_get_separate_features(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(tiny_model, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["vit.layernorm.bias"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    cache = tmp_path / "cache"
    for model, more in ((tiny_model, ()), (str(other), ()), (tiny_model, ("--image-size", "56"))):
        words = ["--cache", str(cache), "--runtime", "torch", *more]
        assert main(["embed", model, laboratories[0], *words]) == 0
    assert len(times(cache)) == 9


def test_damaged_features_are_reported(
    laboratories: tuple[str, str],
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert embed(tiny_model, tmp_path, laboratories[0]) == 0
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert embed(tiny_model, tmp_path, laboratories[0]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/home-" in said and "is damaged" in said and "delete it" in said


def test_nothing_to_embed_is_an_error(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(tiny_model, tmp_path) == 1
    assert "no data; name prepared folders or Hub datasets" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ci
def test_embed_waits_for_features_computed_elsewhere(
    laboratories: tuple[str, str],
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil
    import threading
    import time

    from hf_wbc.engine import features
    from hf_wbc.file_lock import try_lock

    done, cache = tmp_path / "done", tmp_path / "cache"
    assert embed(tiny_model, done, laboratories[0]) == 0
    cache.mkdir()
    locks = {path: try_lock(cache / f".{path.name}.lock") for path in done.iterdir()}

    def finish() -> None:
        for path, lock in locks.items():
            time.sleep(0.3)
            shutil.copy(path, cache)
            assert lock is not None
            lock.release()

    other = threading.Thread(target=finish)
    monkeypatch.setattr(features, "extract_features", lambda *_, **__: pytest.fail("computed"))
    other.start()
    assert embed(tiny_model, cache, laboratories[0]) == 0
    other.join()
    assert {path.name for path in cache.iterdir()} == {path.name for path in done.iterdir()}


def test_training_uses_views_of_another_runtime(
    laboratories: tuple[str, str],
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("openvino", reason="pip install 'hf_wbc[engines]'")
    cache, home = tmp_path / "cache", laboratories[0]
    places = ["--cache", str(cache)]
    assert embed(tiny_model, tmp_path / "exact", home) == 0
    assert main(["embed", tiny_model, home, "--views", "2", *places]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in said[-4:]] == [
        "44 x 16", "22 x 16", "22 x 16", "44 x 2 x 16"
    ]  # fmt: skip
    assert all(line.split("  ")[2].startswith("openvino 2") for line in said[-4:])
    flags = "--inputs features --feature-views 2"
    words = f"--sources {home} --model {tiny_model} --output-dir {tmp_path}/runs".split()
    before = times(cache)
    assert main(["train", *words, *flags.split(), *places, "--steps", "2"]) == 0
    assert times(cache) == before
    (record,) = (RunFolder(run).read_record() for run in (tmp_path / "runs").iterdir())
    assert record["config"]["model"]["feature_runtime"] == "openvino"
    rows, exact = (
        {
            row["image_id"]: row["features"]
            for path in folder.glob("*.parquet")
            for row in pq.read_table(path).to_pylist()
            if isinstance(row["features"][0], float)
        }
        for folder in (cache, tmp_path / "exact")
    )
    assert rows.keys() == exact.keys() and rows != exact
    expected = np.array([exact[name] for name in rows])
    deviation = np.abs(np.array([*rows.values()]) - expected).max()
    assert 0 < deviation < 1e-3 * expected.std()


def test_torch_features_are_not_recomputed_by_another_runtime(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    assert embed(tiny_model, tmp_path, laboratories[0]) == 0
    before = times(tmp_path)
    assert embed(tiny_model, tmp_path, laboratories[0], runtime="auto") == 0
    assert times(tmp_path) == before


def test_views_depend_on_augmentation(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    words = ["embed", tiny_model, laboratories[0], "--cache", str(tmp_path), "--runtime", "torch"]
    for name in ("robust", "light", "none"):
        assert main([*words, "--views", "1", "--augmentation", name]) == 0
    views = [
        np.array(pq.read_table(path)["features"].to_pylist())
        for path in tmp_path.glob("*.parquet")
        if b"views" in (pq.read_schema(path).metadata or {}).get(b"hf_wbc", b"")
    ]
    assert [view.shape for view in views] == [(44, 1, 16)] * 3
    assert len({view.tobytes() for view in views}) == 3
