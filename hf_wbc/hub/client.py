"""Requests to the Hub: retries while it is busy, and errors that say what to do.

The Hub stores large files by xet or, if it has none, by LFS. The client uses xet whenever hf_xet is
installed, without asking the server and without a fallback: against a server without xet, an upload
would fail after the repository was created. `choose_transfer` asks first.
"""

import json
import os
import time
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from hf_wbc.data.hub_cache import NOT_OF_A_HUB, OWN_AUTHORITY, not_a_hub
from hf_wbc.data.proxies import proxy_variables, require_access
from hf_wbc.hub.publication import HubRepo

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "MAX_TRIES",
    "MAX_WAIT_S",
    "Conflict",
    "OnEvent",
    "StaleRevision",
    "choose_transfer",
    "connect",
    "get",
    "post",
    "request",
    "shorten",
    "speaks_xet",
    "uses_xet",
]

OnEvent = Callable[[str], None]
"""Receives one line about what happens: a wait that the Hub requests, a retry, a result."""
T = TypeVar("T")

MAX_TRIES = 4
MAX_WAIT_S = 900.0
"""The longest total wait for one request, in seconds."""
_BUSY = (429, 500, 502, 503, 504)
_UNCHANGED = "nothing was published; repeat the command to resume"
_REMEDIES = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token that is valid there",
    402: "its owner has to pay for this",
    403: "depending on the message, use a token with write access, ask the owner for it, or free "
    "storage there",
    404: "check the name, and that your token has access",
}


class StaleRevision(Exception):
    """Someone else has committed since the repository was inspected."""


class Conflict(Exception):
    """What was to be created already exists."""


def connect() -> "HfApi":
    """The Hub's client; ValueError if HF_HUB_OFFLINE is set, or proxies or token cannot work."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set; unset it to publish, or give a folder as --to")
    require_access()
    return HfApi(library_name="hf_wbc")


def request(action: str, call: Callable[[], T], repo: str, on_event: OnEvent) -> T:
    """The result of `call`, retried while the connection fails or the Hub is busy.

    Waits as long as a Retry-After or RateLimit header asks for.

    Args:
        action: What the call does, such as `listing the files`, for messages.
        call: Makes the request with the Hub's client, or `get` or `post`.
        repo: The repository, for messages.
        on_event: Receives one line for each retry.

    Raises:
        StaleRevision: Status 412.
        Conflict: Status 409.
        ValueError: The user has to fix something.
        OSError: The Hub cannot be reached or stays busy.
    """
    waited = 0.0
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return call()
        except NOT_OF_A_HUB as error:
            raise OSError(f"{action}: {not_a_hub(error)}; {_UNCHANGED}") from error
        except Exception as error:
            cause = _cause(error)
            if cause is None and isinstance(error, RuntimeError):  # of the Hub's client
                raise OSError(
                    f"{action}: the Hub's client stops ({shorten(error)}); look at {repo} before "
                    "you repeat the command, and check HF_ENDPOINT"
                ) from error
            if cause is None or (isinstance(error, ValueError) and error is not cause):
                raise  # it already has a message for the user
            wait = _seconds_to_wait(cause, attempt)
            if wait is None or attempt == MAX_TRIES or waited + wait > MAX_WAIT_S:
                raise _explain(cause, action, repo) from error
        on_event(f"{action}: {shorten(cause)}; trying again in {wait:.0f} s")
        time.sleep(wait)
        waited += wait
    raise AssertionError("unreachable")


def get(url: str, accepted: Collection[int] = ()) -> tuple[int, bytes]:
    """GET a URL for which the client has no method, bypassing every cache.

    Args:
        url: The URL.
        accepted: Error statuses to return instead of raising the client's error.

    Returns:
        Status and body.
    """
    return _send("GET", url, accepted)


def post(url: str, value: Any) -> Any:
    """POST a JSON value to a URL for which the client has no method; the JSON response."""
    return json.loads(_send("POST", url, json=value)[1])


def _send(
    method: str, url: str, accepted: Collection[int] = (), **options: Any
) -> tuple[int, bytes]:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazily exported
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    response = get_session().request(
        method, url, headers=build_hf_headers(), follow_redirects=True, **options
    )
    if response.status_code not in accepted:
        hf_raise_for_status(response)
    return int(response.status_code), bytes(response.content)


def _cause(error: BaseException) -> BaseException | None:
    """The error of the Hub or the network in a chain of errors, or None."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own client

    kinds = (HfHubHTTPError, httpx.HTTPError, ConnectionError, TimeoutError)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, kinds):
            return link
        link = link.__cause__
    return None


def _seconds_to_wait(error: BaseException, attempt: int) -> float | None:
    """Seconds until the next attempt; None if another attempt is useless."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazily exported
        parse_ratelimit_headers,
    )

    response = getattr(error, "response", None)
    if response is not None and response.status_code not in _BUSY:
        return None
    if isinstance(error, OfflineModeIsEnabled) or "CERTIFICATE" in str(error):
        return None
    if response is None:
        return 2.0**attempt
    if (seconds := response.headers.get("Retry-After", "")).isdecimal():
        return float(seconds)
    limit = parse_ratelimit_headers(response.headers)  # sent by the public Hub
    return float(limit.reset_in_seconds) if limit and response.status_code == 429 else 2.0**attempt


def _explain(error: BaseException, action: str, repo: str) -> Exception:
    """The error to raise instead, with a remedy."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    endpoint = constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError("HF_HUB_OFFLINE is set; unset it to publish, or give a folder as --to")
    response = getattr(error, "response", None)
    if response is None:
        remedy = "check the network and HF_ENDPOINT"
        if proxies := proxy_variables(os.environ):
            remedy += f", or the proxy ({', '.join(sorted(set(proxies.values())))})"
        if "CERTIFICATE" in str(error):
            remedy = OWN_AUTHORITY
        elif type(error) is ConnectionError:  # raised by hf_xet only
            remedy += ", or set HF_HUB_DISABLE_XET=1: xet stores large files on another server"
        return OSError(
            f"{action}: {endpoint} cannot be reached ({shorten(error)}); {_UNCHANGED}, or {remedy}"
        )
    status, message = response.status_code, shorten(error)
    if status == 412:
        return StaleRevision(message)
    if status == 409:
        return Conflict(message)
    if status in _BUSY:
        return OSError(f"{action}: {endpoint} is busy ({message}); {_UNCHANGED} later")
    if status == 413:
        return ValueError(f"{action}: {endpoint} does not accept a request this large ({message})")
    remedy = _REMEDIES.get(status, "fix what the message names")
    return ValueError(f"{action}: {endpoint} rejects {repo} ({status}: {message}); {remedy}")


def shorten(error: BaseException) -> str:
    """The Hub's own message, or the error's text, on one line of at most 300 characters."""
    response = getattr(error, "response", None)
    if response is not None:
        text = response.headers.get("X-Error-Message") or getattr(error, "server_message", "")
        text = text or f"HTTP {response.status_code}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())[:300]


def uses_xet() -> bool:
    """Whether the client would send large files by xet."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def speaks_xet(api: "HfApi", repo: HubRepo, revision: str, on_event: OnEvent) -> bool:
    """Ask the server whether it accepts uploads by xet."""
    url = (
        f"{api.endpoint}/api/{repo.repo_type}s/{repo.repo_id}/xet-write-token/"
        f"{quote(revision, safe='')}"
    )

    def request_token() -> bool:
        status, body = get(url, accepted=(400, 401, 403, 404, 405, 501))
        return status == 200 and b"casUrl" in body

    return request("checking for xet", request_token, repo.repo_id, on_event)


def choose_transfer(api: "HfApi", repo: HubRepo, revision: str, on_event: OnEvent) -> None:
    """Turn xet off in this process if the server does not support it."""
    from huggingface_hub import constants

    if uses_xet() and not speaks_xet(api, repo, revision, on_event):
        on_event(f"{api.endpoint} does not support xet; large files are sent by LFS")
        constants.HF_HUB_DISABLE_XET = True
