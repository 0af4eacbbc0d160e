"""Where a publication goes: a repository on the Hub, or a folder that others load from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal["dataset", "model", "metric", "space", "study"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REPO_TYPES: dict[Kind, str] = {
    "dataset": "dataset",
    "model": "model",
    "metric": "space",
    "space": "space",
    "study": "dataset",
}
"""What each kind is on the Hub; `evaluate` loads a metric from a Space."""

_SCHEME = "hf://"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})", re.ASCII)


@dataclass(frozen=True)
class HubRepo:
    """A repository on the Hub."""

    repo_id: str
    """`org/name`."""
    repo_type: str
    """`dataset`, `model` or `space`."""

    def __str__(self) -> str:
        return self.repo_id

    @property
    def owner(self) -> str:
        return self.repo_id.partition("/")[0]


@dataclass(frozen=True)
class Folder:
    """A folder; tag v1 of it is its neighbour FOLDER@v1."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def tagged(self, tag: str) -> Path:
        return self.path.with_name(f"{self.path.name}@{tag}")


Destination = HubRepo | Folder


def parse_destination(to: str, kind: Kind) -> Destination:
    """`org/name` or `hf://org/name` is on the Hub; every other path is a folder.

    ValueError for what could be either, and for no name of a repository: images must not leave
    the house because somebody meant a folder.
    """
    if to.startswith(_SCHEME):
        repo = to.removeprefix(_SCHEME)
        for prefix in ("datasets/", "spaces/", "models/"):
            repo = repo.removeprefix(prefix)
        _check(repo, to)
        return HubRepo(repo, REPO_TYPES[kind])
    match = _REPO.fullmatch(to)
    if not match:
        if not to.strip() or "@" in Path(to).name:
            raise ValueError(
                f"--to is {to!r}; give org/name for the Hub or a folder such as ./{kind}, and a "
                "version by --tag"
            )
        return Folder(Path(to).expanduser().absolute())
    if Path(match["owner"]).is_dir():
        raise ValueError(
            f"--to {to} may be a folder here or a repository on the Hub; write ./{to} for the "
            f"folder, or hf://{to} for the Hub"
        )
    _check(to, to)
    return HubRepo(to, REPO_TYPES[kind])


def _check(repo: str, to: str) -> None:
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise ValueError(
            f"--to {to} is no name of a repository; give org/name, of letters, digits, single "
            "- and ., and _"
        )
