"""A Hub behind the certificate of one's own authority is reached with it, and not without."""

import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.data.source import Source
from hf_wbc.hub.dataset_publication import dataset_publication
from hf_wbc.hub.destination import parse_destination
from hf_wbc.hub.publish import publish

LOAD = """
import os, sys
from hf_wbc.hub.environment import keep_within

keep_within(os.environ)
from hf_wbc.data.domain import load_domain

try:
    print("SAID", len(load_domain("lab/wbc-lab-a", "train")))
except ValueError as error:
    print("SAID", error)
"""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of an authority that nobody knows, for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    made, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", str(key), "-out", str(made), "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made, key


@pytest.fixture
def https(hub: Any, certificate: tuple[Path, Path]) -> Iterator[str]:
    """The Hub's address through TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    behind = ("127.0.0.1", int(hub.url.rpartition(":")[2]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, context, behind), daemon=True).start()
        yield f"https://localhost:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            plain, _ = server.accept()
            threading.Thread(target=_pass_on, args=(plain, context, behind), daemon=True).start()


def _pass_on(plain: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) as client,
        socket.create_connection(behind) as hub,
    ):
        threading.Thread(target=_pump, args=(hub, client), daemon=True).start()
        _pump(client, hub)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("trusted", [True, False])
def test_the_authority_is_trusted_when_it_is_named(
    https: str,
    certificate: tuple[Path, Path],
    prepared: Mapping[str, Path],
    labs: Mapping[str, Source],
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
        cwd=Path(__file__).resolve().parents[3],
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
