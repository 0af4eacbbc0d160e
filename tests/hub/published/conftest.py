"""Two drawn laboratories and two runs between them: what is published, and loaded by others."""

import importlib.metadata
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import ArchiveSpec, Entry, ReadableArchive

CODES = {"BA": "basophil", "EO": "eosinophil", "MO": "monocyte", "LY": "lymphocyte_typical"}
NUM_PER_CODE = 10
OTHERS = ("datasets", "transformers", "torch", "torchvision", "pillow")
"""All that others install."""


def _walk(archive: ReadableArchive) -> Iterator[Entry]:
    for name in archive.names:
        image_id = name.rpartition("/")[2]
        yield Entry(name, image_id, image_id.partition("_")[0])


def _lab(name: str, um_per_px: float) -> ArchiveSpec:
    return ArchiveSpec(
        name=name,
        repo=f"wbc-{name.replace('_', '-')}",
        title=f"Drawn cells of {name}",
        homepage="https://example.org",
        license="cc-by-4.0",
        redistributable=True,
        citation=f"@misc{{{name}, title = {{Drawn cells}}}}",
        description="Drawn cells.",
        um_per_px=um_per_px,
        image_id=r"[A-Z]+_[0-9]+\.png",
        labels=CODES,
        walk=_walk,
        archive_counts=dict.fromkeys(CODES, NUM_PER_CODE),
        used_counts=dict.fromkeys(CODES.values(), NUM_PER_CODE),
    )


LABS = {"lab_a": _lab("lab_a", 25 / 24), "lab_b": _lab("lab_b", 25 / 30)}


@pytest.fixture(scope="session")
def labs() -> Mapping[str, ArchiveSpec]:
    """The sources by their domain."""
    return LABS


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Their prepared folders, in both configurations."""
    root = tmp_path_factory.mktemp("labs")
    found = {}
    for number, (name, source) in enumerate(LABS.items()):
        rng = np.random.default_rng(number)
        for code in CODES:
            for index in range(NUM_PER_CODE):
                path = root / "archives" / name / code / f"{code}_{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_drawn(rng, (41 + number, 36)))
        found[name] = root / name
        prepare(source, root / "archives" / name, found[name], num_proc=1)
    return found


def _drawn(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tiny_convnext(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a ConvNeXt of one block, with random weights and other labels."""
    import torch
    from transformers import ConvNextConfig, ConvNextForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("models") / "tiny_convnext"
    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, num_labels=3)
    ConvNextForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}, resample=3).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def config(prepared: Mapping[str, Path], tiny_model: str) -> TrainConfig:
    """A few steps of a ViT from lab_a to lab_b."""
    return TrainConfig(
        sources=(str(prepared["lab_a"]),),
        target=(str(prepared["lab_b"]),),
        method="coral",
        model=tiny_model,
        steps=4,
        batch_size=4,
        evaluate_every=2,
        lr=1e-2,
    )


@pytest.fixture(scope="session")
def runs(
    config: TrainConfig, tiny_convnext: str, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Finished runs of a ViT and a ConvNeXt."""
    root = tmp_path_factory.mktemp("runs")
    configs = {"vit": config, "convnext": replace(config, model=tiny_convnext)}
    return {name: run(each, root, root / "cache").path for name, each in configs.items()}


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs code in a Python that has datasets, transformers, torch, torchvision and pillow alone.

    That is a folder with links to what these five require, and nothing else on the path; the
    answer is what was printed.
    """
    site = tmp_path_factory.mktemp("plain") / "site-packages"
    site.mkdir()
    wanted, done = list(OTHERS), set[str]()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(found.locate_file(top)))
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)

    def run_plainly(code: str, cwd: Path, env: Mapping[str, str]) -> str:
        cleared = {name: value for name, value in env.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path.append({str(site)!r})\n{code}"],
            cwd=cwd,
            env={**cleared, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_plainly


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder from which nothing of the project can be seen."""
    folder = tmp_path / "elsewhere" / "work"
    folder.mkdir(parents=True)
    return folder
