"""A Hub with a certificate from a private authority is reachable only with that authority."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.hub_server import LoopbackHub

from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_dataset import dataset_publication
from hf_wbc.preparation.source import ArchiveSpec

LOAD = """
import os, sys
from hf_wbc.hub.environment import keep_within

keep_within(os.environ)
from hf_wbc.data.dataset import load_split

try:
    print("SAID", len(load_split("lab/wbc-lab-a", "train")))
except ValueError as error:
    print("SAID", error)
"""


@pytest.fixture
def https(hub: LoopbackHub, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[str]:
    """Serve the Hub's content through TLS and return its address."""
    with LoopbackHub(tmp_path / "hub", certificate=certificate) as secure:
        yield secure.url
    assert not secure.errors


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.slow
@pytest.mark.ci
def test_authority_is_trusted_only_when_configured(
    https: str,
    certificate: tuple[Path, Path],
    prepared: Mapping[str, Path],
    labs: Mapping[str, ArchiveSpec],
    client_env: Callable[..., dict[str, str]],
    trusted: bool,
) -> None:
    to = parse_destination("lab/wbc-lab-a", "dataset")
    publish(dataset_publication(prepared["lab_a"], labs["lab_a"], public=False), to)
    env = {**client_env("reader"), "HF_ENDPOINT": https, "OMP_NUM_THREADS": "1"}
    if trusted:
        env["SSL_CERT_FILE"] = str(certificate[0])
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=env,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout.partition("SAID ")[2].strip()
    if trusted:
        assert said == "28", said + done.stderr
    else:
        assert "cannot be reached" in said and "CERTIFICATE_VERIFY_FAILED" in said
        assert "set SSL_CERT_FILE" in said
