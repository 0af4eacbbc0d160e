"""Check what this machine and its account on the Hub provide, and name what to fix."""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.data.cache_folders import CACHES, cache_problems, is_temporary_cache
from hf_wbc.data.hub_cache import NOT_OF_A_HUB, OWN_AUTHORITY, not_a_hub
from hf_wbc.data.parallel import num_cores
from hf_wbc.data.proxies import proxy_problem, proxy_variables, token_problem
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.hub.environment import is_private
from hf_wbc.hub.publication import HubRepo, parse_destination

__all__ = ["Finding", "examine", "examine_hub"]

MIN_DISK_GB = 20
"""Space for a prepared source, its cached pixels and a few runs."""
MIN_TEMPORARY_GB = 1
"""Space for uploads of the page, and for models before they are published."""
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
SHARED = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "9p")
"""Types of file systems that several machines write to."""
LOGIN = "`hf auth login`"
TIMEOUT_S = 5.0
"""How long to wait for the endpoint, in seconds."""
CPU_FLAGS = {"amx_bf16": "bf16 is fast", "avx512_bf16": "bf16 is usable", "avx512f": "", "avx2": ""}


@dataclass(frozen=True)
class Finding:
    """One checked item; `remedy` is empty if nothing has to be done."""

    name: str
    value: str
    remedy: str = ""


def examine(work: Path) -> list[Finding]:
    """Check this machine.

    Args:
        work: The folder that will contain prepared data and runs; it need not exist yet.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        lambda: _disk(work),
        _temporary,
        lambda: _locks(work),
        _caches,
        _text,
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
            yield Finding(name, "not installed", "install hf_wbc again, as its README says")
    for name, extra in EXTRAS.items():
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, f"not installed (optional: hf_wbc[{extra}])")


def _disk(work: Path) -> Iterator[Finding]:
    from datasets import config

    for name, path, remedy in (
        ("disk for work", work, "work on another disk"),
        ("disk for caches", config.HF_DATASETS_CACHE, "set HF_HOME to a folder on another disk"),
    ):
        place = Path(path).expanduser().absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / 1e9
        remedy = "" if free >= MIN_DISK_GB else f"free {MIN_DISK_GB} GB, or {remedy}"
        if not os.access(place, os.W_OK):
            remedy = f"make {place} writable, or work in another folder"
        yield Finding(name, f"{free:.0f} GB free in {path}", remedy)


def _temporary() -> Iterator[Finding]:
    """Whether the folder for temporary files, such as uploads and unpacked archives, is usable."""
    name, wanted = "temporary files", os.environ.get("TMPDIR")
    try:
        place = tempfile.gettempdir()
    except OSError:
        yield Finding(name, "there is no folder for them", "set TMPDIR to a folder to write to")
        return
    free = shutil.disk_usage(place).free / 1e9
    remedy = "" if free >= MIN_TEMPORARY_GB else f"free {MIN_TEMPORARY_GB} GB, or set TMPDIR"
    if wanted and Path(wanted).absolute() != Path(place).absolute():
        remedy = f"TMPDIR is {wanted}, which cannot be written; create it, or set another one"
    yield Finding(name, f"{free:.0f} GB free in {place}", remedy)


def _locks(work: Path) -> Iterator[Finding]:
    """Whether two commands notice each other on the file systems that they write to."""
    from datasets import config

    for name, path in (("locks in work", work), ("locks in caches", config.HF_DATASETS_CACHE)):
        place = Path(path).expanduser().absolute()
        while not place.is_dir():
            place = place.parent
        kind = _file_system(place)
        found = f"{kind}, shared between machines" if kind in SHARED else kind
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with exclusive_lock(place / f".hf_wbc_doctor_{os.getpid()}.lock", "busy"):
                    pass
        except OSError as error:
            found += f": no lock is possible ({error.strerror})"
            yield Finding(name, found, f"work elsewhere than in {place}, or ask its administrator")
            continue
        remedy = "do not start two commands that write to the same place there" if caught else ""
        yield Finding(name, f"{found}: locks {'do not ' if caught else ''}work", remedy)


def _file_system(place: Path) -> str:
    """The type of the file system of a folder, such as `ext4` or `nfs4`."""
    table = Path("/proc/self/mountinfo")
    if not table.exists():
        return "unknown file system"
    device = place.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            return after.split()[0]
    return "unknown file system"


def _caches() -> Iterator[Finding]:
    problems = cache_problems(os.environ)
    for name, place in problems.items():
        remedy = f"set {name} to a folder that can be written"
        yield Finding("caches", f"{name} is {place}: not writable", remedy)
    moved = {
        name: place for name in CACHES if is_temporary_cache(place := os.environ.get(name, ""))
    }
    for name, place in moved.items():
        yield Finding("caches", f"{name} is {place}, as there is no home folder to write to")
    if not problems and not moved:
        yield Finding("caches", "writable")


def _text() -> Iterator[Finding]:
    """Whether file names and messages in any script can be read and shown."""
    files, screen = sys.getfilesystemencoding(), sys.stdout.encoding or "none"
    remedy = "set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
    for name, encoding, what in (
        ("file names", files, "others cannot be opened"),
        ("terminal", screen, "other letters are shown as escapes"),
    ):
        if encoding.lower().replace("-", "") == "utf8":
            yield Finding(name, encoding)
        else:
            yield Finding(name, f"{encoding}: {what}", remedy)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if total >= 4 else "use a smaller --batch-size"
    yield Finding("memory", f"{total:.0f} GiB", remedy)


def _cpu() -> Iterator[Finding]:
    yield Finding("cores", str(num_cores()))
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.exists() else set()
    found = [name for name in CPU_FLAGS if name in flags]
    notes = [CPU_FLAGS[name] for name in found if CPU_FLAGS[name]]
    note = notes[0] if notes else "bf16 is slow: train with --mixed-precision no"
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
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: use --mixed-precision fp16"
        yield Finding(f"GPU {index}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {bf16}")


def examine_hub(to: str | None = None) -> list[Finding]:
    """Check access to the Hub: endpoint, certificate, token and its rights, and xet.

    Args:
        to: A repository to publish to, `org/name`, whose write access is checked too.
    """
    return list(_examine_hub(to))


def _examine_hub(to: str | None) -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "offline, because HF_HUB_OFFLINE is set")
        return
    endpoint = constants.ENDPOINT
    kind = (
        "a private Hub: names of data are not sent elsewhere"
        if is_private(os.environ)
        else "the public Hub"
    )
    for name, proxy in proxy_variables(os.environ).items():
        yield Finding("proxy", f"{name} is {proxy}; this machine is exempt")
    if problem := proxy_problem(os.environ):
        yield Finding("endpoint", f"{endpoint}: not checked", problem)
        return
    if certificate := os.environ.get("SSL_CERT_FILE"):
        yield Finding("certificates", certificate)
    problem, remedy = _connection_problem(endpoint)
    if problem:
        yield Finding("endpoint", f"{endpoint} {problem}", remedy)
        if get_token():
            remedy = token_problem() or "check the network or HF_ENDPOINT"
            yield Finding("token", "not checked", remedy)
        return
    yield Finding("endpoint", f"{endpoint}, {kind}")
    account = yield from _token()
    if account is not None:
        yield from _xet(account, to)


def _connection_problem(endpoint: str) -> tuple[str, str]:
    """Why the endpoint does not respond as a Hub does, with any status, and a remedy; else empty.

    A login page of the network responds with HTML, whatever is asked.
    """
    from huggingface_hub.utils import get_session, httpx  # type: ignore[attr-defined]  # its own

    try:
        response = get_session().get(f"{endpoint}/api/whoami-v2", timeout=TIMEOUT_S)
    except (OSError, httpx.HTTPError) as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return f"does not respond ({problem})", _remedy(problem)
    try:
        response.json()
    except ValueError as error:
        return f"does not respond as a Hub (status {response.status_code})", not_a_hub(error)
    return "", ""


def _remedy(problem: str) -> str:
    if "CERTIFICATE" in problem.upper():
        return OWN_AUTHORITY
    if proxies := proxy_variables(os.environ):
        named = ", ".join(sorted(set(proxies.values())))
        return f"check the network, the proxy ({named}) or HF_ENDPOINT"
    return "check the network or HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to work without it"


def _token() -> Generator[Finding, None, dict[str, Any] | None]:
    """The account of the token; None without a valid token."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        yield Finding("token", f"none ({LOGIN} for private datasets and publishing)")
        return None
    if problem := token_problem():
        yield Finding("token", "not checked", problem)
        return None
    try:
        account = dict(HfApi().whoami())
        orgs = [org["name"] for org in account.get("orgs", [])]
        owner = account["name"]
    except NOT_OF_A_HUB as error:
        yield Finding("token", "not checked", not_a_hub(error))
        return None
    except HfHubHTTPError as error:
        remedy = f"{LOGIN} again" if error.response.status_code == 401 else "try again later"
        yield Finding("token", f"rejected ({error.response.status_code})", remedy)
        return None
    member = f", a member of {', '.join(orgs)}" if orgs else ""
    yield Finding("token", f"belongs to {owner}{member}")
    yield Finding("token's rights", _rights(account))
    return account


def _rights(account: dict[str, Any]) -> str:
    token = account.get("auth", {}).get("accessToken", {})
    match token.get("role"):
        case "write":
            return "read and write"
        case "read":
            return "read-only: publishing needs write access"
        case "fineGrained":
            scopes = [
                f"{scope.get('entity', {}).get('name', '?')} ({', '.join(scope['permissions'])})"
                for scope in token.get("fineGrained", {}).get("scoped", [])
            ]
            return f"fine-grained: {'; '.join(scopes) or 'only your own repositories'}"
        case other:
            return f"not reported by this server ({other})"


def _xet(account: dict[str, Any], to: str | None) -> Iterator[Finding]:
    """Whether this account may publish to `to`, and whether large files can be sent by xet."""
    from huggingface_hub import HfApi

    from hf_wbc.hub.client import speaks_xet, uses_xet
    from hf_wbc.hub.repository import MAIN, inspect_repository, require_account, require_write

    api, repo = HfApi(), None
    if to is not None:
        destination = parse_destination(to, "dataset")
        if isinstance(destination, HubRepo):
            repo = _existing(api, destination)
            try:
                require_account(api, destination, _ignore)
                if repo is not None and (remote := inspect_repository(api, repo, MAIN, _ignore)):
                    require_write(remote)
                yield Finding("publishing", f"you may write to {to}")
            except ValueError as error:
                yield Finding("publishing", f"you may not write to {to}", str(error))
    if not uses_xet():
        yield Finding("xet", "turned off here: large files are sent by LFS")
    elif repo is None:
        yield Finding("xet", "checked before each upload; LFS if the server does not support it")
    else:
        speaks = speaks_xet(api, repo, MAIN, _ignore)
        yield Finding(
            "xet", "supported" if speaks else "not supported there: large files are sent by LFS"
        )


def _ignore(_: str) -> None:
    pass


def _existing(api: Any, repo: HubRepo) -> HubRepo | None:
    """The repository of this name, of any type, or None."""
    for repo_type in ("dataset", "model", "space"):
        if api.repo_exists(repo.repo_id, repo_type=repo_type):
            return HubRepo(repo.repo_id, repo_type)
    return None
