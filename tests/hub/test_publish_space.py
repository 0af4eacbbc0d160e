"""A published Space starts: it bundles hf_wbc next to its app and lists its requirements."""

import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi

from hf_wbc.cli.main import main
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.hub.publish_space import metric_publication, package_files, space_publication
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.shipped import shipped

CARD = "---\ntitle: Demo\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n---\n# Demo\n"
APP = """
import dataset_scripts
import hf_wbc
from hf_wbc.config import TrainConfig
from hf_wbc.shipped import shipped

print(hf_wbc.__file__, dataset_scripts.__file__, shipped("model_cards/model.md"), sep="\\n")
print(dataset_scripts.known()["acevedo_20"].um_per_px, TrainConfig(sources=("a",)).adapt.method)
"""
TO = parse_destination("lab/wbc", "space")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """Write a Space whose app imports the package."""
    folder = tmp_path / "spaces" / "demo"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").write_text("torch==2.11.0  # what ZeroGPU has\nhf_wbc\n")
    return folder


def test_app_runs_without_hf_wbc_installed(space: Path, tmp_path: Path) -> None:
    to = parse_destination(str(tmp_path / "published"), "space")
    publish(space_publication(str(space), to), to)
    installed = sysconfig.get_paths()["purelib"]  # without additions from its .pth files
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import runpy; runpy.run_path('app.py', run_name='__main__')"],
        cwd=tmp_path / "published",
        env={"PYTHONPATH": f"{tmp_path / 'published'}:{installed}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *files, facts = done.stdout.splitlines()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(tmp_path / "published") for file in files)
    assert facts == "0.1 source_only"


@pytest.mark.slow
def test_demo_starts_from_its_published_folder(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the app extra is not installed")
    to = parse_destination(str(tmp_path / "wbc"), "space")
    publish(space_publication("wbc", to), to)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path / 'wbc'}:{sysconfig.get_paths()['purelib']}",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    code = "import runpy; runpy.run_path('app.py', run_name='__main__')"
    log = tmp_path / "log.txt"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            cwd=tmp_path / "wbc",
            env=env,
            stdout=out,
            stderr=out,
        ) as server,
    ):
        try:
            assert "White blood cells" in _page(f"http://127.0.0.1:{port}/", server, log)
        finally:
            server.terminate()


def _page(url: str, server: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return the app's response once it answers."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_requirements_are_merged_and_space_pins_come_first(space: Path) -> None:
    file = space_publication(str(space), TO).files["requirements.txt"]
    assert isinstance(file, bytes)
    lines = file.decode().splitlines()
    assert lines[0] == "torch==2.11.0  # what ZeroGPU has"
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    others = [line for line in needed if not re.match(r"torch\b(?!v)", line)]
    assert lines[1:] == others
    assert not any(line.startswith(("hf_wbc", "hf-wbc")) for line in lines)


def test_package_is_complete_without_compiled_or_hidden_files() -> None:
    files = package_files()
    for path in (ROOT / "hf_wbc").rglob("*.py"):
        assert files[path.relative_to(ROOT).as_posix()] == path
    assert "dataset_scripts/acevedo_20.py" in files and "hf_wbc/py.typed" in files
    assert "hf_wbc/_share/model_cards/dataset.md" in files
    assert not [name for name in files if "__pycache__" in name or "/." in name]


def test_space_not_importing_the_package_is_unchanged(space: Path) -> None:
    (space / "app.py").write_text("import gradio\n")
    assert set(space_publication(str(space), TO).files) == {
        "README.md", "app.py", "requirements.txt",
    }  # fmt: skip


def test_custom_space_is_private_and_metric_public_by_default(space: Path) -> None:
    assert space_publication(str(space), TO).public is False
    assert space_publication(str(space), TO, public=True).public is True
    to = parse_destination("lab/wbc_macro_f1", "metric")
    assert metric_publication("wbc_macro_f1", to).public is True
    assert metric_publication("wbc_macro_f1", to, public=False).public is False


def test_metric_is_the_shipped_folder() -> None:
    files = metric_publication(
        "wbc_macro_f1", parse_destination("lab/wbc_macro_f1", "metric")
    ).files
    folder = shipped("spaces/wbc_macro_f1")
    there = {path.name for path in folder.iterdir() if path.is_file()}
    assert set(files) == there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("README.md", "# Demo\n"), "has no sdk, sdk_version, app_file in"),
        (("README.md", CARD.replace("sdk_version: 6.31.0\n", "")), "has no sdk_version in"),
        (
            ("README.md", CARD.replace("app.py", "main.py")),
            "names the app_file main.py, which does not exist",
        ),
        (("README.md", "---\nsdk: static\n---\n"), "sdk static, .* index.html, .* not exist"),
    ],
)
def test_space_that_would_not_start_is_refused(
    space: Path, change: tuple[str, str], message: str
) -> None:
    (space / change[0]).write_text(change[1])
    with pytest.raises(ValueError, match=message):
        space_publication(str(space), TO)


def test_metric_under_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"would look for f1.py; end it in wbc_macro"):
        metric_publication("wbc_macro_f1", parse_destination("lab/f1", "metric"))


@pytest.fixture
def shown(hub: Any, runs: Mapping[str, Path], labs: Mapping[str, ArchiveSpec]) -> None:
    """Publish a model to the Hub."""
    to = parse_destination("lab/wbc-vit", "model")
    publish(model_publication(runs["vit"], to, labs, public=False), to)


def test_space_gets_its_model_as_variable(
    hub: Any, shown: None, space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "space", str(space), "--model", "lab/wbc-vit@v1", "--to"]
    assert main([*words, "lab/wbc"]) == 0
    repo = hub.repo("space", "lab/wbc")
    front = yaml.safe_load(repo.content("v1", "README.md").decode().split("---\n")[1])
    assert front["models"] == ["lab/wbc-vit"] and front["sdk_version"] == "6.31.0"
    assert repo.facts["variables"] == {"HF_WBC_MODEL": {"value": "lab/wbc-vit@v1"}}
    assert main([*words, str(space.parent / "copy")]) == 1
    assert "set HF_WBC_MODEL where you start the Space" in capsys.readouterr().err
    assert main(["publish", "space", str(space), "--model", "runs/x/model", "--to", "lab/x"]) == 1
    assert "publish the model first, and use org/name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("lab/nothing", "--model lab/nothing is not at http"),
        ("lab/wbc-vit@v9", "--model lab/wbc-vit@v9 is not at http"),
        ("lab/other", "lab/other is not a model of the eleven classes: it lacks basophil"),
        ("lab/empty", "lab/empty"),
    ],
)
def test_space_with_unloadable_model_is_not_published(
    hub: Any, shown: None, space: Path, tiny_convnext: str, capsys: pytest.CaptureFixture[str],
    model: str, message: str,
) -> None:  # fmt: skip
    api = HfApi()
    for name in ("lab/other", "lab/empty"):
        api.create_repo(name, private=True)
    api.upload_folder(repo_id="lab/other", folder_path=tiny_convnext)
    for more in ([], ["--dry-run"]):
        assert main(["publish", "space", str(space), "--model", model, "--to", "lab/x", *more]) == 1
        assert message in capsys.readouterr().err
    assert not hub.store.find("spaces", "lab/x")


def test_public_space_does_not_show_cells_of_private_model(
    hub: Any, shown: None, space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "space", str(space), "--model", "lab/wbc-vit", "--to", "lab/wbc"]
    repo = hub.repo("model", "lab/wbc-vit")
    cells = repo.add_blob("reference.parquet", b"cells")
    repo.commit("main", {"reference.parquet": cells}, "By hand", "alice")
    assert main([*words, "--public"]) == 1
    assert (
        "public Space would show to everyone; publish the Space with --private"
        in capsys.readouterr().err
    )
    assert not hub.store.find("spaces", "lab/wbc")
    assert main(words) == 0


def test_unknown_space_is_reported() -> None:
    with pytest.raises(
        ValueError, match="nope is neither a folder nor a shipped Space; choose from wbc"
    ):
        space_publication("nope", TO)
