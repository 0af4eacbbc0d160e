"""Fixtures shared by all tests: tiny prepared folders, and real images where available."""

import hashlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from support.once import once
from xdist.scheduler import LoadScopeScheduling

from hf_wbc.data.schema import DEFAULT_CONFIG, SPLITS, row_features
from hf_wbc.taxonomy import NAMES, UNLABELED

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Set before importing torch: threads do not help tiny networks and slow down parallel tests."""

settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

FIRST = ("app", "hub", "cli", "study", "engine")
"""Rooms with the longest tests, which start first so that no worker waits for them at the end."""
TOGETHER = ("app",)
"""Rooms whose tests run in one worker process, since they share a server and a browser."""
SERVER = "serve"
"""Fixture that starts the page. Tests that use it are slow, and run in CI."""
NUM_PER_CLASS = {"train": 4, "validation": 2, "test": 2}


class ByFile(LoadScopeScheduling):
    """With `-n`, run the tests of a file in one worker, so that each fixture is made once."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the room or the file that stays together."""
        file = nodeid.partition("::")[0]
        room = file.split("/")[1]
        return room if room in TOGETHER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Hand out files in the order of collection."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a running page, and move the rooms in FIRST to the front."""
    for item in items:
        uses_server = SERVER in getattr(item, "fixturenames", ())
        if uses_server and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.ci)

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return FIRST.index(room) if room in FIRST else len(FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests and their subprocesses away from the user's dataset cache."""
    cache = tmp_path_factory.mktemp("datasets_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(cache))
        if "datasets" in sys.modules:
            patch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        yield


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> None:
    """Restore Ctrl-C, which shells disable for background jobs and their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real images next to the checkout; skip if there is none."""
    path = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not (path / "data").is_dir():
        pytest.skip("no ../shared/data beside the checkout: real images are not published here")
    return path.resolve()


@pytest.fixture(scope="session")
def make_domain() -> Callable[..., Path]:
    """Write a tiny prepared folder; see `write_domain`."""
    return write_domain


@pytest.fixture(scope="session")
def laboratories(
    make_domain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Return a source and a target with different colors."""

    def make(root: Path) -> None:
        make_domain(root / "home", name="home", seed=1)
        make_domain(root / "away", name="away", seed=2, background=(180, 200, 240))

    root = once(tmp_path_factory, "laboratories", make)
    return str(root / "home"), str(root / "away")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a random one-layer ViT for 28 px images, with foreign labels."""
    return str(once(tmp_path_factory, "models", _save_tiny_vit) / "tiny_vit")


def _save_tiny_vit(folder: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=28,
        patch_size=14,
        num_labels=3,
    )
    ViTForImageClassification(config).save_pretrained(folder / "tiny_vit")
    ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder / "tiny_vit")


@pytest.fixture
def flat_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use two principal components: compiling UMAP is slow, and test_embedding.py covers it."""
    monkeypatch.setattr(
        "hf_wbc.audit.embedding._umap",
        lambda points, neighbors, distances, seed: points[:, :2],
    )


@pytest.fixture(scope="session")
def toy_archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the smallest toy archives by source, drawn once."""
    from hf_wbc.toy.archives import draw_archives

    def make(folder: Path) -> None:
        draw_archives(folder, seed=0, size="tiny", num_proc=1)

    folder = once(tmp_path_factory, "toy", make)
    return draw_archives(folder, seed=0, size="tiny")  # finds what was drawn


def write_domain(
    path: Path,
    name: str = "toy_a",
    num_per_class: int | Mapping[str, int] = NUM_PER_CLASS,
    um_per_px: float | None = 25 / 36,
    seed: int = 0,
    *,
    classes: tuple[str, ...] = NAMES,
    labeled: bool = True,
    background: tuple[int, int, int] = (236, 220, 226),
) -> Path:
    """Write a prepared folder of colored blobs, one hue per class, as 25 um PNG crops.

    Args:
        path: The folder to write.
        name: Domain name.
        num_per_class: Images per class in each split, or by split.
        um_per_px: Scale; None gives non-square frames of 32 to 40 px with an unknown scale.
        labeled: False writes -1 for every label.
        background: Background color. Differs between domains, as does `seed`.
    """
    from datasets import Dataset
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    counts = num_per_class
    if isinstance(counts, int):
        counts = dict.fromkeys(SPLITS, counts)
    rng = np.random.default_rng(seed)
    folder = path / DEFAULT_CONFIG
    folder.mkdir(parents=True)
    for split in SPLITS:
        rows = [
            _row(rng, name, split, cell, number, um_per_px, labeled, background)
            for cell in classes
            for number in range(counts[split])
        ]
        table = Dataset.from_list(rows, features=row_features())
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    card = DatasetCardData()
    files = [{"split": split, "path": f"{DEFAULT_CONFIG}/{split}-*.parquet"} for split in SPLITS]
    MetadataConfigs({DEFAULT_CONFIG: {"data_files": files, "default": True}}).to_dataset_card_data(
        card
    )
    table.info.config_name = DEFAULT_CONFIG
    DatasetInfosDict({DEFAULT_CONFIG: table.info}).to_dataset_card_data(card)
    (path / "README.md").write_text(f"---\n{card}\n---\n\n# {name}\n", encoding="utf-8")
    return path


def _row(
    rng: np.random.Generator,
    name: str,
    split: str,
    cell: str,
    number: int,
    um_per_px: float | None,
    labeled: bool,
    background: tuple[int, int, int],
) -> dict[str, object]:
    """Return one row of the schema."""
    if um_per_px is None:
        height, width = (int(side) for side in rng.integers(32, 41, 2))
    else:
        height = width = round(25 / um_per_px)
    pixels = _blob(rng, NAMES.index(cell), height, width, background)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    image_id = f"{name}_{split}_{cell}_{number}.png"
    return {
        "image": {"bytes": encoded.getvalue(), "path": image_id},
        "label": NAMES.index(cell) if labeled else UNLABELED,
        "source_label": cell[:3].upper() if labeled else None,
        "domain": name,
        "image_id": image_id,
        "group": None,
        "um_per_px": um_per_px,
        "pixel_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }


def _blob(
    rng: np.random.Generator,
    label: int,
    height: int,
    width: int,
    background: tuple[int, int, int],
) -> np.ndarray:
    """Draw a disc in the hue of its class on a noisy background, (height, width, 3) uint8."""
    angle = 2 * np.pi * (label / len(NAMES) + np.array([0, 1 / 3, 2 / 3]))
    color = 128 + 100 * np.cos(angle)
    center_y, center_x = np.array([height, width]) / 2 + rng.uniform(-2, 2, 2)
    y, x = np.mgrid[:height, :width]
    radius = rng.uniform(0.28, 0.36) * min(height, width)
    inside = (y - center_y) ** 2 + (x - center_x) ** 2 < radius**2
    pixels = np.where(inside[..., None], color, np.array(background, float))
    noisy = pixels + rng.normal(0, 6, pixels.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)
