"""Proxies of the environment: loopback is exempt, and unusable ones are reported with a remedy."""

import os
import subprocess
import sys

import pytest

from hf_wbc.data import proxies
from hf_wbc.data.proxies import (
    direct_loopback,
    is_loopback,
    proxy_problem,
    proxy_variables,
    require_access,
    without_proxies,
)

HOSTILE = {"ALL_PROXY": "socks5://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [*proxy_variables(os.environ), "no_proxy", "NO_PROXY"]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_loopback_is_added_to_no_proxy() -> None:
    environ = {"http_proxy": "http://proxy:80", "NO_PROXY": "hospital.org, localhost"}
    direct_loopback(environ, "10.0.0.7")
    assert environ["no_proxy"] == "hospital.org,localhost,127.0.0.1,::1,10.0.0.7"
    assert environ["NO_PROXY"] == environ["no_proxy"]
    for untouched in ({"http_proxy": "p", "no_proxy": "*"}, {"no_proxy": "x"}, {}):
        before = dict(untouched)
        direct_loopback(untouched)
        assert untouched == before
    assert is_loopback("http://127.0.1.1:80") and is_loopback("http://[::1]:80/x")
    assert not is_loopback("https://huggingface.co")


def test_password_is_not_shown() -> None:
    found = proxy_variables({"HTTPS_PROXY": "http://me:secret@proxy:80", "no_proxy": "x"})
    assert found == {"HTTPS_PROXY": "http://...@proxy:80"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks://proxy:1080", "socks is not supported; write http://"),
        ("http_proxy", "http://proxy:port", "malformed"),
        ("https_proxy", "http://proxy:80", ""),
    ],
)
def test_unusable_proxy_is_reported(
    name: str, value: str, words: str, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv(name, value)
    said = proxy_problem(os.environ)
    assert words in said and bool(words) == bool(said)


def test_socks_proxy_requires_its_package(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setitem(sys.modules, "socksio", None)
    no_proxies.setenv("all_proxy", "socks5://proxy:1080")
    with pytest.raises(ValueError, match=r"all_proxy=socks5://proxy:1080.*pip install socksio"):
        require_access()
    with without_proxies(os.environ):
        require_access()
    assert proxy_variables(os.environ)["all_proxy"] == "socks5://proxy:1080"


@pytest.mark.parametrize("token", ["hf_ä", "hf_a b", "hf_a\tb"])
def test_token_with_invalid_characters_is_reported(
    token: str, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match="characters that no token contains"):
        require_access()
    assert token not in proxies.token_problem()


@pytest.mark.slow  # starts a fresh process; the tests above call the same function
@pytest.mark.ci
def test_hub_commands_fail_with_one_line() -> None:
    code = (
        "import sys; from hf_wbc.cli.main import main; sys.exit(main(['publish', *sys.argv[1:]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "space", "wbc_macro_f1", "--to", "lab/x"],
        capture_output=True,
        text=True,
        env={**os.environ, **HOSTILE, "ALL_PROXY": "socks4://127.0.0.1:9"},
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ALL_PROXY is socks4://127.0.0.1:9, and socks4 is not supported" in done.stderr
