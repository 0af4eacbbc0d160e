"""A Hub of its own for every test, which the clients of this process and of others talk to."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "published"), str(HERE.parent)]  # for hub_server and more

from hub_server import LoopbackHub  # noqa: E402


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A loopback Hub; this process is alice, of the organisation `lab`, with a write token.

    `hub.url`, `hub.repo("dataset", "lab/cells")` (what lies there), `hub.log` and `hub.sent`,
    `hub.env("reader", home=...)` for another process, and `hub.faults`:
    `answer("POST", "/commit/", 503, times=2)`, `hold("POST", "/commit/")`, `cut_at(num_bytes)`,
    `quota`. `hub.page_size`, `hub.part_size` and `hub.xet` may be set at any time.
    """
    with LoopbackHub(tmp_path / "hub") as server:
        home = tmp_path / "home"
        for name, value in server.env("alice", home=home).items():
            monkeypatch.setenv(name, value)
        _point_libraries_at(server.url, home, monkeypatch)
        yield server
    assert not server.errors, "\n".join(server.errors)


def _point_libraries_at(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the libraries of this process took from the environment when they were imported."""
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
    """A certificate for 127.0.0.1 that nobody knows, and its key."""
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
    """Make this process one of `hub_server.people.TOKENS`, somebody unknown, or nobody (None)."""

    def log_in(name: str | None) -> None:
        if name is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", f"hf_{name}")

    return log_in


@pytest.fixture
def client_env(hub: LoopbackHub, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The whole environment of another process that talks to the Hub, with caches of its own."""

    def client_env(token: str | None = "alice", home: str = "elsewhere") -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        return {**kept, **hub.env(token, home=tmp_path / home)}

    return client_env


@dataclass(frozen=True)
class Laboratory:
    """A prepared dataset; its folder is a copy, which a test may spoil."""

    folder: Path
    mapping: Path

    @property
    def words(self) -> list[str]:
        """What `hf-wbc publish` has to be told of it."""
        return ["dataset", str(self.folder), "--mapping", str(self.mapping)]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from laboratories import prepare_laboratory

    root = tmp_path_factory.mktemp("prepared")
    prepare_laboratory(root / "open", "open_lab", open_to_all=True)
    prepare_laboratory(root / "closed", "closed_lab", open_to_all=False, suffix=".jpg", seed=1)
    return root


@pytest.fixture
def open_lab(_prepared: Path, tmp_path: Path) -> Laboratory:
    """A dataset that its owner lets everybody have."""
    shutil.copytree(_prepared / "open/open_lab", tmp_path / "prepared/open_lab")
    return Laboratory(tmp_path / "prepared/open_lab", _prepared / "open/open_lab.json")


@pytest.fixture
def closed_lab(_prepared: Path, tmp_path: Path) -> Laboratory:
    """A dataset of which nobody said that it may be passed on."""
    shutil.copytree(_prepared / "closed/closed_lab", tmp_path / "prepared/closed_lab")
    return Laboratory(tmp_path / "prepared/closed_lab", _prepared / "closed/closed_lab.json")


@pytest.fixture
def published(
    hub: LoopbackHub, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `hf-wbc publish` in this process: its status, and all that it printed."""
    from hf_wbc.cli.main import main

    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        status = main(["publish", *words])
        captured = capfd.readouterr()
        return status, captured.out + captured.err

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time; the seconds that would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
