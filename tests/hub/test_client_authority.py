"""A Hub with a hospital's own certificate authority: the error states the fix, and it works."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import LoopbackHub

COMMAND = "import sys; from hf_wbc.cli.main import main; sys.exit(main(sys.argv[1:]))"


def test_unknown_authority_error_names_ssl_cert_file(
    certificate: tuple[Path, Path],
    hub: LoopbackHub,
    open_lab: Any,
    published: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.hf_api import api

    with LoopbackHub(hub.store.root, certificate=certificate) as secure:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", secure.url)
        monkeypatch.setattr(api, "endpoint", secure.url)
        status, words = published(*open_lab.words, "--to", "lab/cells")
    assert status == 1
    assert "set SSL_CERT_FILE to the certificate of your own authority" in words


@pytest.mark.slow  # starts fresh processes
@pytest.mark.ci
def test_authority_in_ssl_cert_file_is_trusted(
    certificate: tuple[Path, Path], open_lab: Any, tmp_path: Path
) -> None:
    with LoopbackHub(tmp_path / "hub", certificate=certificate) as hub:
        assert hub.url.startswith("https://")
        env = {**os.environ, **hub.env("alice", home=tmp_path / "home")}
        words = [sys.executable, "-c", COMMAND, "publish", *open_lab.words, "--to", "lab/cells"]

        trusting = {**env, "SSL_CERT_FILE": str(certificate[0])}
        done = subprocess.run(words, env=trusting, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "v1" in hub.repo("dataset", "lab/cells").refs("tags")
    assert not hub.errors
