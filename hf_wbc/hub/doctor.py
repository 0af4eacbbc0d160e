"""What the Hub of this environment is, who we are there, what we may do, and how files go there.

What a machine has for this project, and what to do about what it lacks."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.data.hub_cache import OWN_AUTHORITY
from hf_wbc.data.parallel import num_cores
from hf_wbc.hub.environment import is_private
from hf_wbc.hub.publication import HubRepo, parse_destination

LEAST_DISK_GB = 20
"""A prepared source, its pixels and a few runs."""
PACKAGES = (
    "torch", "torchvision", "transformers", "datasets", "accelerate", "evaluate",
    "huggingface-hub",
)  # fmt: skip
EXTRAS = {
    "timm": "timm",
    "peft": "lora",
    "tensorboard": "track",
    "trackio": "track",
    "gradio": "app",
}
CPU_FLAGS = {"amx_bf16": "bf16 fast", "avx512_bf16": "bf16 usable", "avx512f": "", "avx2": ""}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is empty when nothing has to be done."""

    name: str
    value: str
    remedy: str = ""


def examine(work: Path) -> list[Finding]:
    """All findings, for work that is done under the folder `work`."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        lambda: _disk(work),
        _memory,
        _cpu,
        _gpu,
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    remedy = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    yield Finding("python", platform.python_version(), remedy)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", "install hf_wbc anew, as its README says")
    for name, extra in EXTRAS.items():
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, f"not installed (optional: the extra {extra} of hf_wbc)")


def _disk(work: Path) -> Iterator[Finding]:
    from datasets import config

    for name, path, remedy in (
        ("disk for work", work, "work on another disk"),
        ("disk for caches", config.HF_DATASETS_CACHE, "set HF_HOME to a place on another disk"),
    ):
        place = Path(path).expanduser().absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / 1e9
        remedy = "" if free >= LEAST_DISK_GB else f"free {LEAST_DISK_GB} GB, or {remedy}"
        if not os.access(place, os.W_OK):
            remedy = f"make {place} writable, or work in another folder"
        yield Finding(name, f"{free:.0f} GB free in {path}", remedy)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if total >= 4 else "use a smaller --batch-size"
    yield Finding("memory", f"{total:.0f} GiB", remedy)


def _cpu() -> Iterator[Finding]:
    yield Finding("cores", str(num_cores()))
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    found = [name for name in CPU_FLAGS if name in flags]
    notes = [CPU_FLAGS[name] for name in found if CPU_FLAGS[name]]
    note = notes[0] if notes else "bf16 slow: train with --precision fp32"
    yield Finding("CPU features", f"{', '.join(found) or platform.machine()} ({note})")


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        hint = (
            "" if not shutil.which("nvidia-smi") else "install a torch built for your CUDA driver"
        )
        yield Finding("GPU", "none that torch can use", hint)
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use --precision fp16"
        yield Finding(f"GPU {index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {bf16}")


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

    from hf_wbc.hub.client import speaks_xet, uses_xet
    from hf_wbc.hub.repository import MAIN, inspect_repository, require_account, require_write

    api, repo = HfApi(), None
    if to is not None:
        destination = parse_destination(to, "dataset")
        if isinstance(destination, HubRepo):
            repo = _existing(api, destination)
            try:
                require_account(api, destination, _silent)
                if repo is not None and (remote := inspect_repository(api, repo, MAIN, _silent)):
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
