"""A loopback Hub for every test, and datasets and runs to publish to it.

All Hub clients in this process and in processes that a test starts use the loopback Hub.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import plain_python as plain
from support.hub_laboratories import LABS, prepare_laboratory, prepare_labs
from support.hub_server import LoopbackHub
from support.once import once

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.preparation.source import ArchiveSpec


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Start a loopback Hub, with this process logged in as alice of `lab` with a write token.

    `hub.repo("dataset", "lab/cells")` shows what a repository holds; `hub.log` and `hub.sent` show
    the requests; `hub.env("reader", home=...)` is the environment for another process. `hub.faults`
    injects faults: `answer("POST", "/commit/", 503, times=2)`, `hold("POST", "/commit/")`,
    `cut_at(num_bytes)`, and `quota`. `hub.page_size`, `hub.part_size`, and `hub.xet` can be set at
    any time.
    """
    with LoopbackHub(tmp_path / "hub") as server:
        home = tmp_path / "home"
        for name, value in server.env("alice", home=home).items():
            monkeypatch.setenv(name, value)
        _point_libraries_at(server.url, home, monkeypatch)
        yield server
    assert not server.errors, "\n".join(server.errors)


def _point_libraries_at(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the settings that libraries read from the environment on import."""
    import huggingface_hub.constants as constants
    from huggingface_hub.hf_api import api

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(api, "endpoint", url)
    if "datasets" in sys.modules:
        import datasets.config

        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
        monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Create an untrusted certificate for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", cert, "-keyout", key],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return cert, key


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Log this process in as one of `support.hub_server.TOKENS`, an unknown user, or nobody."""

    def log_in(name: str | None) -> None:
        if name is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", f"hf_{name}")

    return log_in


@pytest.fixture
def client_env(hub: LoopbackHub, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return the full environment of another process that uses the Hub, with separate caches."""

    def client_env(token: str | None = "alice", home: str = "elsewhere") -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        return {**kept, **hub.env(token, home=tmp_path / home)}

    return client_env


@dataclass(frozen=True)
class Laboratory:
    """A prepared dataset; its folder is a copy that tests may modify."""

    folder: Path
    mapping: Path

    @property
    def words(self) -> list[str]:
        """Return the arguments that `hf-wbc publish` needs."""
        return ["dataset", str(self.folder), "--mapping", str(self.mapping)]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(root: Path) -> None:
        prepare_laboratory(root / "open", "open_lab", open_to_all=True)
        prepare_laboratory(root / "closed", "closed_lab", open_to_all=False, suffix=".jpg", seed=1)

    return once(tmp_path_factory, "open_and_closed_lab", make)


@pytest.fixture
def open_lab(_prepared: Path, tmp_path: Path) -> Laboratory:
    """Return a dataset whose owner permits redistribution."""
    shutil.copytree(_prepared / "open/open_lab", tmp_path / "prepared/open_lab")
    return Laboratory(tmp_path / "prepared/open_lab", _prepared / "open/open_lab.json")


@pytest.fixture
def closed_lab(_prepared: Path, tmp_path: Path) -> Laboratory:
    """Return a dataset without permission for redistribution."""
    shutil.copytree(_prepared / "closed/closed_lab", tmp_path / "prepared/closed_lab")
    return Laboratory(tmp_path / "prepared/closed_lab", _prepared / "closed/closed_lab.json")


@pytest.fixture
def published(
    hub: LoopbackHub, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run `hf-wbc publish` in this process; return its exit status and output."""
    from hf_wbc.cli.main import main

    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        status = main(["publish", *words])
        captured = capfd.readouterr()
        return status, captured.out + captured.err

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip waiting; return the seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.fixture(scope="session")
def labs() -> Mapping[str, ArchiveSpec]:
    """Return the sources of `prepared` by domain."""
    return LABS


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the prepared folders of `labs`, in both configurations."""
    root = once(tmp_path_factory, "labs", prepare_labs)
    return {name: root / name for name in LABS}


@pytest.fixture(scope="session")
def tiny_convnext(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a one-block ConvNeXt, with random weights and foreign labels."""
    import torch
    from transformers import ConvNextConfig, ConvNextForImageClassification, ViTImageProcessor

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        config = ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, num_labels=3)
        ConvNextForImageClassification(config).save_pretrained(folder)
        ViTImageProcessor(size={"height": 32, "width": 32}, resample=3).save_pretrained(folder)

    return str(once(tmp_path_factory, "tiny_convnext", make))


@pytest.fixture(scope="session")
def config(prepared: Mapping[str, Path], tiny_model: str) -> TrainConfig:
    """Configure a few steps of a ViT from lab_a to lab_b."""
    return TrainConfig(
        sources=(str(prepared["lab_a"]),),
        target=(str(prepared["lab_b"]),),
        method="coral",
        model=tiny_model,
        steps=4,
        batch_size=4,
        eval_steps=2,
        learning_rate=1e-2,
    )


@pytest.fixture(scope="session")
def runs(
    config: TrainConfig,
    tiny_model: str,
    tiny_convnext: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Path]:
    """Return finished runs of a ViT and a ConvNeXt."""

    def make(root: Path) -> None:
        for name, model in (("vit", tiny_model), ("convnext", tiny_convnext)):
            made = run(config.replace(model=model), root / "runs", root / "cache").path
            (root / name).symlink_to(made, target_is_directory=True)

    root = once(tmp_path_factory, "hub_runs", make)
    return {name: (root / name).resolve() for name in ("vit", "convnext")}


@pytest.fixture(scope="session")
def plain_python(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Path, Mapping[str, str]], str]:
    """Run code in a Python without hf_wbc; see `support.plain_python`."""
    return plain.plain_python(tmp_path_factory.mktemp("plain") / "site-packages")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder from which nothing of the project is visible."""
    folder = tmp_path / "elsewhere" / "work"
    folder.mkdir(parents=True)
    return folder
