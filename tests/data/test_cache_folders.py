"""Without a writable home, caches go to a private temporary folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_wbc.data import cache_folders
from hf_wbc.data.cache_folders import cache_problems, private_temporary_folder, use_writable_caches


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate temporary folder, and deny access where root would be allowed."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def test_writable_home_is_used(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert use_writable_caches(environ) == "" and environ.keys() <= {"HOME", "USER"}
    assert cache_problems(environ) == {}


@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null"])
def test_all_caches_are_temporary_without_a_home(home: str, temporary: Path) -> None:
    environ = {"HOME": home, "MPLCONFIGDIR": str(temporary / "mine")}
    assert "HF_HOME" in cache_problems(environ)
    said = use_writable_caches(environ)
    assert home in said and "set HF_HOME" in said
    assert environ["MPLCONFIGDIR"] == str(temporary / "mine")
    for name in ("HF_HOME", "NUMBA_CACHE_DIR", "HOME"):
        assert Path(environ[name]).is_relative_to(temporary)
    assert cache_problems(environ) == {}
    assert use_writable_caches(environ) == ""


def test_user_without_passwd_entry_has_a_name(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    environ: dict[str, str] = {}
    assert "there is no home folder" in use_writable_caches(environ)
    assert environ["USER"] == "uid2147483641"


def test_folder_prepared_by_another_user_is_not_used(temporary: Path) -> None:
    usual = private_temporary_folder()
    assert private_temporary_folder() == usual
    usual.chmod(0o777)
    assert private_temporary_folder() != usual
    usual.rmdir()
    usual.symlink_to(temporary)
    assert private_temporary_folder() != usual


@pytest.mark.slow
@pytest.mark.ci
def test_libraries_import_without_a_home(tmp_path: Path) -> None:
    code = (
        "import os; from hf_wbc.data.cache_folders import use_writable_caches\n"
        "use_writable_caches(os.environ)\n"
        "import matplotlib, datasets.config as config\n"
        "print(matplotlib.get_cachedir(), config.HF_DATASETS_CACHE)"
    )
    hidden = ("HF_", "XDG_", "MPL", "NUMBA", "TORCH")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environ |= {"HOME": "/proc/nothing", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert all(place.startswith(str(tmp_path)) for place in done.stdout.split())
    assert cache_folders.is_writable(tmp_path)
