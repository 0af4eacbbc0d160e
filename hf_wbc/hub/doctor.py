"""What the Hub of this environment is, who we are there, what we may do, and how files go there."""

import os
from collections.abc import Generator, Iterator
from typing import Any

from hf_wbc.data.hub_cache import OWN_AUTHORITY
from hf_wbc.engine.doctor import Finding
from hf_wbc.hub.destination import HubRepo, parse_destination
from hf_wbc.hub.environment import is_private

LOGIN = "`hf auth login`"
TIMEOUT_S = 5.0


def examine_hub(to: str | None = None) -> list[Finding]:
    """Endpoint, certificate, token and its rights, and xet; `to` is where one means to publish."""
    return list(_examine(to))


def _examine(to: str | None) -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "offline, as HF_HUB_OFFLINE asks")
        return
    endpoint = constants.ENDPOINT
    kind = "of your own: names of data stay within" if is_private(os.environ) else "the public Hub"
    if certificate := os.environ.get("SSL_CERT_FILE"):
        yield Finding("certificates", certificate)
    trouble = _trouble(endpoint)
    if trouble:
        yield Finding("endpoint", f"{endpoint} does not answer ({trouble})", _remedy(trouble))
        if get_token():
            yield Finding("token", "unchecked", "check the network or HF_ENDPOINT")
        return
    yield Finding("endpoint", f"{endpoint}, {kind}")
    account = yield from _token()
    if account is not None:
        yield from _xet(account, to)


def _trouble(endpoint: str) -> str:
    """Why the endpoint does not answer; empty when it does, whatever it says."""
    from huggingface_hub.utils import get_session, httpx  # type: ignore[attr-defined]  # its own

    try:
        get_session().get(f"{endpoint}/api/whoami-v2", timeout=TIMEOUT_S)
    except (OSError, httpx.HTTPError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _remedy(trouble: str) -> str:
    if "CERTIFICATE" in trouble.upper():
        return OWN_AUTHORITY
    return "check the network or HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to work without it"


def _token() -> Generator[Finding, None, dict[str, Any] | None]:
    """The account that the token is of; None without one."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        yield Finding("token", f"none ({LOGIN}, for private datasets and publishing)")
        return None
    try:
        account = dict(HfApi().whoami())
    except HfHubHTTPError as error:
        remedy = f"{LOGIN} again" if error.response.status_code == 401 else "try again later"
        yield Finding("token", f"refused ({error.response.status_code})", remedy)
        return None
    orgs = [org["name"] for org in account.get("orgs", [])]
    of = f"of {account['name']}" + (f", who is of {', '.join(orgs)}" if orgs else "")
    yield Finding("token", of)
    yield Finding("token's rights", _rights(account))
    return account


def _rights(account: dict[str, Any]) -> str:
    token = account.get("auth", {}).get("accessToken", {})
    match token.get("role"):
        case "write":
            return "read and write"
        case "read":
            return "read only: publishing needs one with the right to write"
        case "fineGrained":
            scopes = [
                f"{scope.get('entity', {}).get('name', '?')} ({', '.join(scope['permissions'])})"
                for scope in token.get("fineGrained", {}).get("scoped", [])
            ]
            return f"fine-grained: {'; '.join(scopes) or 'nothing beyond your own'}"
        case other:
            return f"not told by this server ({other})"


def _xet(account: dict[str, Any], to: str | None) -> Iterator[Finding]:
    """Whether large files can go by xet, which is asked of a repository."""
    from huggingface_hub import HfApi

    from hf_wbc.hub.remote import MAIN, look, require_account, require_write
    from hf_wbc.hub.xet import speaks_xet, uses_xet

    api, repo = HfApi(), None
    if to is not None:
        destination = parse_destination(to, "dataset")
        if isinstance(destination, HubRepo):
            repo = _existing(api, destination)
            try:
                require_account(api, destination, _silent)
                if repo is not None and (remote := look(api, repo, MAIN, _silent)):
                    require_write(remote)
                yield Finding("publishing", f"{to} is yours to write to")
            except ValueError as error:
                yield Finding("publishing", f"not to {to}", str(error))
    if not uses_xet():
        yield Finding("xet", "off here: large files go by LFS")
    elif repo is None:
        yield Finding("xet", "asked before each upload; LFS where the server has none")
    else:
        speaks = speaks_xet(api, repo, MAIN, _silent)
        yield Finding("xet", "spoken" if speaks else "not spoken there: large files go by LFS")


def _silent(_: str) -> None:
    pass


def _existing(api: Any, repo: HubRepo) -> HubRepo | None:
    """The repository, of whatever type it is."""
    for repo_type in ("dataset", "model", "space"):
        if api.repo_exists(repo.repo_id, repo_type=repo_type):
            return HubRepo(repo.repo_id, repo_type)
    return None
