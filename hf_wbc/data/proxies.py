"""Proxies and tokens of the environment: loopback stays direct, and what cannot work says so.

The Hub's client (httpx) reads the proxy variables whenever it is created, even for a server on this
machine. A SOCKS proxy without the package that speaks SOCKS, an unknown scheme or a malformed
exception then raise errors of any type, far from their cause.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from urllib.parse import urlsplit

__all__ = [
    "direct_loopback",
    "is_loopback",
    "proxy_problem",
    "proxy_variables",
    "require_access",
    "token_problem",
    "without_proxies",
]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAMES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "ws_proxy", "wss_proxy")
_EXCEPT = "no_proxy"


def proxy_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables that are set, without user names and passwords."""
    return {
        name: _without_password(value)
        for name, value in environ.items()
        if name.lower() in _NAMES and value
    }


def _without_password(proxy: str) -> str:
    before, at, host = proxy.rpartition("@")
    return f"{before.partition('://')[0]}://...@{host}" if at and "://" in before else proxy


def is_loopback(url: str) -> bool:
    """Return whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    return host in LOOPBACK or host.startswith("127.")


def direct_loopback(environ: MutableMapping[str, str], *hosts: str) -> None:
    """Exempt this machine from proxies, in both spellings of the variable that libraries read.

    Args:
        environ: The environment to complete, such as `os.environ`.
        hosts: Further names or addresses of this machine.
    """
    if not proxy_variables(environ):
        return
    given = environ.get(_EXCEPT) or environ.get(_EXCEPT.upper()) or ""
    listed = [each.strip() for each in given.split(",") if each.strip()]
    if "*" in listed:
        return
    value = ",".join([*listed, *(host for host in (*LOOPBACK, *hosts) if host not in listed)])
    environ[_EXCEPT] = environ[_EXCEPT.upper()] = value


@contextmanager
def without_proxies(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Hide all proxy variables for the duration of the block, which only talks to this machine."""
    hidden = {name: environ[name] for name in environ if name.lower() in (*_NAMES, _EXCEPT)}
    for name in hidden:
        del environ[name]
    try:
        yield
    finally:
        environ.update(hidden)


def proxy_problem(environ: Mapping[str, str]) -> str:
    """Return why the proxies of the environment cannot be used, and a remedy; empty if they can."""
    for name, proxy in proxy_variables(environ).items():
        scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
        if scheme not in ("http", "https", "socks5", "socks5h"):
            return (
                f"{name} is {proxy}, and {scheme} is not supported; write http://, https:// or "
                "socks5://, or unset it"
            )
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own client

    named = ", ".join(f"{name}={value}" for name, value in proxy_variables(environ).items())
    try:
        httpx.Client(verify=False).close()
    except ImportError:
        return (
            f"{named}: a SOCKS proxy needs the package socksio; `pip install socksio`, or "
            "unset the variable"
        )
    except Exception as error:  # any type: the variables are parsed in many places
        exempt = environ.get(_EXCEPT) or environ.get(_EXCEPT.upper()) or ""
        named = ", ".join([named] * bool(named) + [f"no_proxy={exempt}"] * bool(exempt))
        return f"{named}: the proxy settings are malformed ({error}); correct or unset them"
    return ""


def token_problem() -> str:
    """Return what is wrong with the letters of the Hub's token, and a remedy; empty if nothing."""
    from huggingface_hub import get_token

    token = get_token() or ""
    if token.isascii() and token.isprintable() and " " not in token:
        return ""
    return (
        "the token has characters that no token contains (spaces, line breaks or letters outside "
        "ASCII); "
        "copy it again into HF_TOKEN, or `hf auth login`"
    )


def require_access() -> None:
    """Raise ValueError if proxies or token of the environment cannot work, before any request."""
    if problem := proxy_problem(os.environ) or token_problem():
        raise ValueError(problem)
