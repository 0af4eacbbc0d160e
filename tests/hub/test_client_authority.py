"""A Hub with a hospital's own certificate authority: an error states the fix; then it works."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.hub_server import LoopbackHub

COMMAND = "import sys; from hf_wbc.cli.main import main; sys.exit(main(sys.argv[1:]))"


def test_an_own_authority_is_named_as_the_remedy_and_trusted_when_it_is_given(
    certificate: tuple[Path, Path], open_lab: Any, tmp_path: Path
) -> None:
    with LoopbackHub(tmp_path / "hub", certificate=certificate) as hub:
        assert hub.url.startswith("https://")
        env = {**os.environ, **hub.env("alice", home=tmp_path / "home")}
        env.pop("SSL_CERT_FILE", None)
        words = [sys.executable, "-c", COMMAND, "publish", *open_lab.words, "--to", "lab/cells"]

        def run(**more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                words, env={**env, **more}, capture_output=True, text=True, timeout=300
            )

        refused = run()
        assert refused.returncode == 1
        assert "set SSL_CERT_FILE to the certificate of your own authority" in refused.stderr
        done = run(SSL_CERT_FILE=str(certificate[0]))
        assert done.returncode == 0, done.stderr
        assert "v1" in hub.repo("dataset", "lab/cells").refs("tags")
    assert not hub.errors
