"""A folder or dataset is embedded once, and labels that do not fit are reported."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_wbc.data import image_blocks
from hf_wbc.data.image_io import ImageFault
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.pool import Pool, embed_for_choice, folder_labels, open_pool
from hf_wbc.models import load_classifier, save_classifier
from tests.conftest import write_domain
from tests.support.shifted_laboratory import laboratory

OPTIONS = PredictOptions(cell_fills_frame=True, runtime="torch", num_proc=1)


@pytest.fixture(scope="module")
def model(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of an untrained model of the eleven classes."""
    loaded = load_classifier(tiny_model)
    folder = tmp_path_factory.mktemp("models") / "eleven"
    save_classifier(loaded.classifier, loaded.processor, folder)
    return str(folder)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of twelve images in class folders."""
    folder = tmp_path_factory.mktemp("my_lab")
    rng = np.random.default_rng(0)
    for name in ("monocyte", "Lympho", "unsorted"):
        (folder / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def opened(model: str, ref: Path, cache: Path, **options: object) -> Pool:
    return open_pool(model, str(ref), OPTIONS, cache, **options)[1]  # type: ignore[arg-type]


def test_folder_is_embedded_once(model: str, cells: Path, tmp_path: Path) -> None:
    first, calls = opened(model, cells, tmp_path), []
    second = opened(model, cells, tmp_path, on_progress=lambda *done: calls.append(done))
    assert calls == [(12, 12)] and (first.features == second.features).all()
    assert first.features.shape[0] == len(first) == 12 and first.appearance.shape == (12, 7)
    assert np.isfinite(first.features).all()


@pytest.mark.parametrize("damage", ["a fault", "cut", "empty"])
def test_faults_that_pass_and_damaged_blocks_do_not_stay(
    model: str, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    if damage == "a fault":
        with monkeypatch.context() as broken, pytest.raises(ValueError, match="12 of 12 images"):
            broken.setattr(image_blocks, "decode_rgb", _fail)
            opened(model, cells, tmp_path)
    else:
        opened(model, cells, tmp_path)
        (block,) = tmp_path.rglob("*.npz")
        block.write_bytes(block.read_bytes()[: 2000 if damage == "cut" else 0])
    assert len(opened(model, cells, tmp_path)) == 12


def _fail(data: bytes, name: str) -> None:
    raise ImageFault(f"{name}: needs an extra")


def test_class_folders_provide_labels(model: str, cells: Path, tmp_path: Path) -> None:
    pool = opened(model, cells, tmp_path, classes={"Lympho": "lymphocyte_typical"})
    assert np.bincount(pool.labels + 1, minlength=12)[[0, 10, 11]].tolist() == [4, 4, 4]
    assert folder_labels(["a/monocyte/1.png", "monocyte.png"], {"a": None}).tolist() == [9, -1]


def test_images_are_read_by_name(model: str, cells: Path, tmp_path: Path) -> None:
    pool = opened(model, cells, tmp_path)
    wanted = [pool.image_ids[7], pool.image_ids[2]]
    assert pool.images is not None
    squares = pool.images.read(wanted)
    assert list(squares) == wanted and squares[wanted[0]].shape == (28, 28, 3)


def test_damaged_images_are_reported_or_skipped(model: str, cells: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    Image.open(cells / "monocyte/0.png").save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.png"):
        opened(model, folder, tmp_path / "cache")
    skipping = PredictOptions(cell_fills_frame=True, runtime="torch", num_proc=1, skip_bad=True)
    pool = open_pool(model, str(folder), skipping, tmp_path / "cache")[1]
    assert pool.image_ids == ("a.png",) and "b.png" in pool.faults[0]


def test_held_out_cells_of_a_dataset_are_never_offered(model: str, tmp_path: Path) -> None:
    write_domain(tmp_path / "lab", num_per_class=1)
    pool = opened(model, tmp_path / "lab", tmp_path / "cache")
    assert len(pool) == 22 and not any("_test_" in each for each in pool.image_ids)
    assert len(pool.held_out) == 11
    with pytest.raises(ValueError, match="test cells"):
        pool.rows(sorted(pool.held_out)[:1])
    assert len(opened(model, tmp_path / "lab", tmp_path / "cache", reserve_test=False)) == 33


def test_labels_of_another_dataset_are_reported(model: str, cells: Path, tmp_path: Path) -> None:
    pool = opened(model, cells, tmp_path)
    with pytest.raises(ValueError, match="another dataset"):
        pool.rows(["x.png", "y.png"])
    with pytest.raises(ValueError, match=r"x\.png"):
        pool.rows([pool.image_ids[0], "x.png"])


def test_choice_embedding_is_small_and_of_unit_scale() -> None:
    embedded = embed_for_choice(laboratory().features)
    assert embedded.shape == (240, 24)
    assert np.isclose((embedded.astype(float) ** 2).sum(1).mean(), 1, atol=1e-3)
