"""A reference is built from a model's own sources, without non-redistributable images."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import load_split
from hf_wbc.data.preprocessing import PreprocessingRule
from hf_wbc.engine.run import run
from hf_wbc.inference.build_gallery import build_reference_set
from hf_wbc.inference.cell_prediction import UNMEASURED
from hf_wbc.inference.gallery import REFERENCE_FILE, read_reference_set
from hf_wbc.inference.predictor import ENOUGH, Predictor
from hf_wbc.models import PretrainedModel, load_trained, save_classifier
from hf_wbc.records import RunFolder
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NUM_CLASSES


@pytest.fixture(scope="module")
def trained(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, learning_rate=1e-2, steps=10)
    out = tmp_path_factory.mktemp("runs")
    return run(config, out, out / "cache")


def test_run_without_reference_set_has_held_out_confusion(trained: RunFolder) -> None:
    found = read_reference_set(str(trained.model), load_trained(str(trained.model)))
    assert found.gallery is None and found.held_out is not None
    rows = [
        row
        for row in pq.read_table(trained.predictions).to_pylist()
        if row["split"] == "validation"
    ]
    np.testing.assert_array_equal(found.held_out.labels, [row["label"] for row in rows])
    np.testing.assert_allclose(found.held_out.logits, [row["logits"] for row in rows])


def test_images_of_unknown_license_are_omitted_by_default(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    assert main(["reference", str(model), laboratories[0], "--per-class", "2"]) == 0
    table = pq.read_table(model / REFERENCE_FILE)
    train = table.filter(np.array(table["split"].to_pylist()) == "train")
    assert len(train) == 2 * NUM_CLASSES and train["thumbnail"].null_count == len(train)
    build_reference_set(model, laboratories[:1], per_class=2)
    shown = pq.read_table(model / REFERENCE_FILE)
    assert shown["thumbnail"].null_count == len(load_split(laboratories[0], "validation"))
    gallery = read_reference_set(str(model), load_trained(str(model))).gallery
    assert gallery is not None and all(gallery.thumbnails)


def test_held_out_predictions_match_the_record(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    build_reference_set(model, laboratories[:1], per_class=1)
    loaded = load_trained(str(model))
    ours, recorded = (
        read_reference_set(str(model), loaded),
        read_reference_set(str(trained.model), loaded),
    )
    assert ours.held_out is not None and recorded.held_out is not None
    np.testing.assert_allclose(ours.held_out.logits, recorded.held_out.logits, atol=1e-3)


def test_only_the_models_own_sources_are_accepted(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    before = sorted(path.name for path in trained.path.iterdir())
    with pytest.raises(ValueError, match="is away, which the model was not trained on"):
        build_reference_set(trained.model, laboratories[1:])
    with pytest.raises(ValueError, match="no datasets"):
        build_reference_set(trained.model, ())
    with pytest.raises(ValueError, match="is not a folder"):
        build_reference_set(tmp_path / "nothing", laboratories[:1])
    assert sorted(path.name for path in trained.path.iterdir()) == before


def test_unmeasured_laboratory_causes_a_warning(trained: RunFolder, tmp_path: Path) -> None:
    loaded = load_trained(str(trained.model))
    notes = {"rule": PreprocessingRule(normalize_by="domain").to_dict()}
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "model", notes)
    predictor = Predictor.load(str(tmp_path / "model"), runtime="torch")
    rng = np.random.default_rng(0)
    cells = [rng.integers(90, 200, (40, 40, 3), np.uint8) for _ in range(ENOUGH)]
    assert all(UNMEASURED in one.warnings for one in predictor.predict(cells[:3], 25 / 40))
    many = predictor.predict(cells, 25 / 40)
    assert not any(UNMEASURED in one.warnings for one in many)
    few = predictor.predict(cells[:1], 25 / 40)[0]
    assert np.abs(few.logits - many[0].logits).max() > 1e-4  # a different mean and std


TOY = shipped("spaces/wbc/toy_model")


@pytest.fixture(scope="module")
def toy() -> PretrainedModel:
    return load_trained(str(TOY))


def replace_column(table: pa.Table, name: str, values: pa.Array | None) -> pa.Table:
    kept = table.drop_columns(name)
    return kept if values is None else kept.append_column(name, values)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("label", lambda num: pa.array([99] * num), "class ids"),
        ("label", lambda num: pa.array(["x"] * num), "damaged|label|invalid|int"),
        ("features", lambda num: pa.array([[1.0]] * num), "features"),
        (
            "features",
            lambda num: pa.array([[1.0], [1.0, 2.0]] * (num // 2) + [[1.0]] * (num % 2)),
            "",
        ),
        ("logits", lambda num: pa.array([[float("nan")] * 11] * num), ""),
        ("look", lambda num: pa.array([[0.0] * 6] * num), "look"),
        ("split", None, "split"),
        ("thumbnail", None, "thumbnail"),
    ],
)
def test_untrusted_reference_set_is_validated(
    toy: PretrainedModel, tmp_path: Path, name: str, values: Any, said: str
) -> None:
    table = pq.read_table(TOY / REFERENCE_FILE)
    changed = replace_column(table, name, None if values is None else values(len(table)))
    pq.write_table(
        changed.replace_schema_metadata(table.schema.metadata), tmp_path / REFERENCE_FILE
    )
    with pytest.raises(ValueError, match=rf"(?s)reference\.parquet cannot be used: .*({said})"):
        read_reference_set(str(tmp_path), toy)


@pytest.mark.parametrize("metadata", [None, b"[" * 100_000, b"[]", b'{"version": 1}', b"\xff"])
def test_reference_set_metadata_is_validated(
    toy: PretrainedModel, tmp_path: Path, metadata: bytes | None
) -> None:
    facts = None if metadata is None else {b"hf_wbc": metadata}
    table = pq.read_table(TOY / REFERENCE_FILE).replace_schema_metadata(facts)
    pq.write_table(table, tmp_path / REFERENCE_FILE)
    with pytest.raises(ValueError, match=r"reference\.parquet cannot be used"):
        read_reference_set(str(tmp_path), toy)


def test_reference_set_with_a_billion_rows_is_not_read(
    toy: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_wbc.inference.gallery.MAX_ROWS", 10)
    shutil.copy(TOY / REFERENCE_FILE, tmp_path)
    with pytest.raises(ValueError, match="too many"):
        read_reference_set(str(tmp_path), toy)
