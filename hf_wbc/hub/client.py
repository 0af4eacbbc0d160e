"""Asking the Hub with patience, and its refusals in words that say what to do.

Whether the server speaks xet, the Hub's newer way to store large files.

The client sends xet wherever hf_xet is installed, asks nobody, and knows no way back: with a server
that has none, an upload ends in an error after the repository was made."""

import json
import time
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from hf_wbc.data.hub_cache import OWN_AUTHORITY
from hf_wbc.hub.publication import HubRepo

if TYPE_CHECKING:
    from huggingface_hub import HfApi


Report = Callable[[str], None]
"""Takes one line about what is going on: a wait that the Hub asked for, a retry."""
T = TypeVar("T")

MAX_TRIES = 4
MAX_WAIT_S = 900.0
"""Longer than this in all, nobody wants to wait at a command that does nothing."""
_BUSY = (429, 500, 502, 503, 504)
_NOTHING = "nothing was published; repeat the command, which goes on where it was"


class StaleRevision(Exception):
    """Somebody else has committed since the repository was looked at."""


class Conflict(Exception):
    """What was to be made is there already."""


def request(what: str, question: Callable[[], T], repo: str, report: Report) -> T:
    """The answer to `question`, asked again where the connection broke or the Hub is busy.

    It waits as long as a Retry-After or a RateLimit asks for. `what` says what was being done.
    Stale for 412, Conflict for 409; ValueError for what the user has to mend, OSError for what
    passes, each in one line.
    """
    waited = 0.0
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return question()
        except Exception as error:
            cause = _cause(error)
            if cause is None or (isinstance(error, ValueError) and error is not cause):
                raise  # it has its words already
            wait = _wait(cause, attempt)
            if wait is None or attempt == MAX_TRIES or waited + wait > MAX_WAIT_S:
                raise _explained(cause, what, repo) from error
        report(f"{what}: {shorten(cause)}; trying again in {wait:.0f} s")
        time.sleep(wait)
        waited += wait
    raise AssertionError("unreachable")


def get(url: str, fine: Collection[int] = ()) -> tuple[int, bytes]:
    """Status and body of an address that the client has no method for, past every cache.

    Statuses that are not `fine` are the client's own errors.
    """
    return _call("GET", url, fine)


def post(url: str, value: Any) -> Any:
    """What such an address answers to a JSON value, in JSON."""
    return json.loads(_call("POST", url, json=value)[1])


def _call(method: str, url: str, fine: Collection[int] = (), **more: Any) -> tuple[int, bytes]:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazily exported
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    response = get_session().request(
        method, url, headers=build_hf_headers(), follow_redirects=True, **more
    )
    if response.status_code not in fine:
        hf_raise_for_status(response)
    return int(response.status_code), bytes(response.content)


def _cause(error: BaseException) -> BaseException | None:
    """The error of the Hub or of the network in a chain of errors; None when there is none."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own client

    kinds = (HfHubHTTPError, httpx.HTTPError, ConnectionError, TimeoutError)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, kinds):
            return link
        link = link.__cause__
    return None


def _wait(error: BaseException, attempt: int) -> float | None:
    """Seconds until another try is worth it; None when it never is."""
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
    if (asked := response.headers.get("Retry-After", "")).isdigit():
        return float(asked)
    limit = parse_ratelimit_headers(response.headers)  # what the public Hub sends
    return float(limit.reset_in_seconds) if limit and response.status_code == 429 else 2.0**attempt


def _explained(error: BaseException, what: str, repo: str) -> Exception:
    """What to raise instead."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    endpoint = constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError("HF_HUB_OFFLINE is set; unset it to publish, or give a folder as --to")
    response = getattr(error, "response", None)
    if response is None:
        remedy = "check the network and HF_ENDPOINT"
        if "CERTIFICATE" in str(error):
            remedy = OWN_AUTHORITY
        elif type(error) is ConnectionError:  # as hf_xet raises it, and nobody else
            remedy += ", or set HF_HUB_DISABLE_XET=1, as its store of large files is another server"
        return OSError(
            f"{what}: {endpoint} cannot be reached ({shorten(error)}); {_NOTHING}, or {remedy}"
        )
    status, said = response.status_code, shorten(error)
    if status == 412:
        return StaleRevision(said)
    if status == 409:
        return Conflict(said)
    if status in _BUSY:
        return OSError(f"{what}: {endpoint} is busy ({said}); {_NOTHING} later")
    if status == 413:
        return ValueError(f"{what}: {endpoint} takes no request as large as this ({said})")
    words = {
        401: "log in with `hf auth login`, or set HF_TOKEN to a token that is valid there",
        402: "its owner has to pay for this",
        403: "use a token with the right to write there, ask its owner, or free some of its room, "
        "whichever the words mean",
        404: "check the name, and that your token may see it",
    }
    remedy = words.get(status, "mend what the words say")
    return ValueError(f"{what}: {endpoint} refuses {repo} ({status}: {said}); {remedy}")


def shorten(error: BaseException) -> str:
    """The Hub's own words, or the error's first line."""
    response = getattr(error, "response", None)
    if response is not None:
        said = response.headers.get("X-Error-Message") or getattr(error, "server_message", "")
        said = said or f"HTTP {response.status_code}"
    else:
        said = str(error) or type(error).__name__
    return " ".join(said.split())[:300]


def uses_xet() -> bool:
    """Whether the client would send large files by xet."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def speaks_xet(api: "HfApi", repo: HubRepo, revision: str, report: Report) -> bool:
    """Whether the server hands out what an upload by xet needs; it is asked, not guessed."""
    url = (
        f"{api.endpoint}/api/{repo.repo_type}s/{repo.repo_id}/xet-write-token/"
        f"{quote(revision, safe='')}"
    )

    def asked() -> bool:
        status, body = get(url, fine=(400, 401, 403, 404, 405, 501))
        return status == 200 and b"casUrl" in body

    return request("asking for xet", asked, repo.repo_id, report)


def choose_transfer(api: "HfApi", repo: HubRepo, revision: str, report: Report) -> None:
    """Turn xet off for this process where the server has none."""
    from huggingface_hub import constants

    if uses_xet() and not speaks_xet(api, repo, revision, report):
        report(f"{api.endpoint} does not speak xet; files go by LFS")
        constants.HF_HUB_DISABLE_XET = True
