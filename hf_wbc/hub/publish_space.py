"""Publish a Space or the metric: its folder, and hf_wbc itself if its app imports it.

hf_wbc may not be on the package index, and a Space that requires it from there would not start. So
the Space contains hf_wbc's files, and its requirements.txt lists hf_wbc's dependencies.
"""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from hf_wbc.data.image_io import IMAGE_SUFFIXES
from hf_wbc.hub.client import OnEvent, connect, request
from hf_wbc.hub.publication import CARD, Destination, HubRepo, Publication, PublishFolder
from hf_wbc.hub.repository import MAIN, inspect_repository
from hf_wbc.inference.gallery import REFERENCE_FILE as REFERENCE
from hf_wbc.models import load_trained
from hf_wbc.shipped import shipped
from hf_wbc.text import parse_yaml

__all__ = [
    "METRIC",
    "VARIABLE",
    "metric_publication",
    "package_files",
    "require_model",
    "show_model",
    "space_publication",
    "with_model",
]

VARIABLE = "HF_WBC_MODEL"
"""The environment variable that spaces/wbc/app.py reads."""
METRIC = "wbc_macro_f1"
REQUIREMENTS = "requirements.txt"
_MODEL = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
_PACKAGES = ("hf_wbc", "dataset_scripts")
_SHIPPED = ("model_cards",)
"""Shipped folders that an app may need; a Space does not need the other Spaces."""
_HIDDEN = ("__pycache__",)
_IMPORTS = re.compile(r"^\s*(?:from|import)\s+(?:hf_wbc|dataset_scripts)\b", re.MULTILINE)
_WITHOUT_APP = {"static": "index.html", "docker": "Dockerfile"}
"""The file that such a Space starts from, unless its card names another one."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
Files = dict[str, Path | bytes]
EXAMPLE_CELLS = "cells/"
"""Real cells of the shipped Space, whose license allows redistribution."""


def space_publication(
    what: str,
    destination: Destination,
    *,
    model: str | None = None,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a Space.

    Args:
        what: The Space's folder, or the name of a shipped one: `wbc`.
        destination: Where it will run.
        model: The model that the Space shows, `org/name[@revision]`; its card names it.
        public: Whether anyone may see it. None: a shipped Space is public; any other may contain
            images and is private.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: There is no such Space, or its README does not say how to start it.
    """
    folder = _folder(what)
    files = _tree(folder)
    _check_card(folder, files)
    if any(_IMPORTS.search(text) for text in _python(files)):
        files |= package_files()
        files[REQUIREMENTS] = _requirements(files.get(REQUIREMENTS)).encode()
    if model is not None:
        files[CARD] = with_model((folder / CARD).read_text(encoding="utf-8"), model).encode()
    is_ours = folder == _shipped_folder(folder.name)
    pictures = [
        name
        for name in files
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(EXAMPLE_CELLS)
    ]
    return Publication(
        kind="space",
        files=files,
        public=is_ours and not pictures if public is None else public,
        message=f"The Space {folder.name}",
        tag=tag,
    )


def metric_publication(
    what: str, destination: Destination, *, public: bool | None = None, tag: str | None = None
) -> Publication:
    """The publication of the metric for `evaluate.load("org/wbc_macro_f1")`.

    The metric works without hf_wbc.

    Args:
        what: The metric's folder, or the name of the shipped one: `wbc_macro_f1`.
        destination: Must end in the name of the metric's file, where evaluate looks for it.
        public: Whether anyone may see it; None means yes.
        tag: The tag's name; None for the next of v1, v2 and so on.

    Raises:
        ValueError: There is no such metric, or `destination` has another name.
    """
    folder = _folder(what)
    files = _tree(folder)
    _check_card(folder, files)
    name = (
        destination.path.name
        if isinstance(destination, PublishFolder)
        else destination.repo_id.partition("/")[2]
    )
    if f"{name}.py" not in files:
        scripts = [path.removesuffix(".py") for path in files if path == f"{folder.name}.py"]
        raise ValueError(
            f"--to ends in {name}, where evaluate.load would look for {name}.py; end it in "
            f"{scripts[0] if scripts else METRIC}"
        )
    return Publication(
        kind="metric",
        files=files,
        public=True if public is None else public,
        message=f"The metric {name}",
        tag=tag,
    )


def with_model(card: str, model: str) -> str:
    """A Space's README with the model in its front matter, so that the Hub links to it.

    ValueError unless `model` is `org/name[@revision]`: the Space cannot read a local folder.
    """
    from huggingface_hub import RepoCard

    if not _MODEL.fullmatch(model):
        raise ValueError(
            f"--model is {model!r}, but a Space loads its model from the Hub: publish the model "
            "first, and use org/name[@revision]"
        )
    made = RepoCard(card, ignore_metadata_errors=True)
    made.data["models"] = [model.partition("@")[0]]
    return str(made)


def require_model(model: str, public: bool, on_event: OnEvent) -> None:
    """Check that a Space can show a model.

    Args:
        model: `org/name[@revision]`.
        public: Whether the Space is public.
        on_event: Receives one line for each retry.

    Raises:
        ValueError: The model does not load, or a public Space would show the cell images of a
            private model.
    """
    api, (name, _, revision) = connect(), model.partition("@")
    found = inspect_repository(api, HubRepo(name, "model"), revision or MAIN, on_event)
    if found is None:
        raise ValueError(
            f"--model {model} is not at {api.endpoint}, or your token has no access to it; publish "
            "it first, or check its name and revision"
        )
    load_trained(model)
    if public and found.private and REFERENCE in found.paths:
        raise ValueError(
            f"--model {model} is private and contains images of cells ({REFERENCE}), which a "
            "public Space would show to everyone; publish the Space with --private"
        )


def show_model(destination: Destination, model: str, on_event: OnEvent) -> None:
    """Set the variable that tells the Space on the Hub which model to load."""
    assert isinstance(destination, HubRepo)
    from huggingface_hub.errors import HfHubHTTPError

    api = connect()

    def set_variable() -> bool:
        try:
            api.add_space_variable(destination.repo_id, VARIABLE, model)
        except HfHubHTTPError as error:
            if error.response.status_code in (404, 405, 501):  # this server has no such settings
                return False
            raise
        return True

    if not request(f"setting {VARIABLE}", set_variable, destination.repo_id, on_event):
        on_event(
            f"{destination} is published, but {api.endpoint} cannot set the variables of a Space: "
            f"set {VARIABLE}={model} where the Space runs"
        )
        return
    on_event(
        f"{destination} shows {model}; if the model is private, add a token that can read it to "
        "the Space's settings, as the secret HF_TOKEN"
    )


def package_files() -> Files:
    """The files of hf_wbc for a Space, with the card templates where a wheel has them."""
    import hf_wbc

    root = Path(hf_wbc.__file__).parent
    files: Files = {}
    for package in _PACKAGES:
        files |= {f"{package}/{name}": path for name, path in _tree(root.parent / package).items()}
    for name in _SHIPPED:
        for path, file in _tree(shipped(name)).items():
            files[f"hf_wbc/_share/{name}/{path}"] = file
    return files


def _folder(what: str) -> Path:
    """The folder of a Space; ValueError lists the shipped ones."""
    path = Path(what)
    if path.is_dir():
        return path.resolve()
    if (there := _shipped_folder(what)) is not None:
        return there
    known = ", ".join(sorted(path.name for path in shipped("spaces").iterdir() if path.is_dir()))
    raise ValueError(f"{what} is neither a folder nor a shipped Space; choose from {known}")


def _shipped_folder(name: str) -> Path | None:
    if not _NAME.fullmatch(name):
        return None
    path = shipped("spaces") / name
    return path.resolve() if path.is_dir() else None


def _tree(folder: Path) -> Files:
    """All files by their path in the folder, except hidden and compiled ones."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_hidden(path.relative_to(folder))
    }


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in _HIDDEN for part in path.parts)


def _check_card(folder: Path, files: Files) -> None:
    """ValueError unless the README's front matter says how to start the Space."""
    card = files.get(CARD)
    text = card.read_text(encoding="utf-8") if isinstance(card, Path) else ""
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    facts = parse_yaml(front[1], str(folder / CARD)) if front else None
    facts = facts if isinstance(facts, dict) else {}
    needed = ("sdk",) if facts.get("sdk") in _WITHOUT_APP else ("sdk", "sdk_version", "app_file")
    if missing := [key for key in needed if not facts.get(key)]:
        raise ValueError(
            f"{folder / CARD} has no {', '.join(missing)} in its front matter, so the Space would "
            "not start; see spaces/wbc_macro_f1/README.md for an example"
        )
    app_file = facts.get("app_file") or _WITHOUT_APP[facts["sdk"]]
    if app_file not in files:
        needs = (
            f"names the app_file {app_file}"
            if facts.get("app_file")
            else f"has the sdk {facts['sdk']}, which starts from {app_file}"
        )
        raise ValueError(f"{folder / CARD} {needs}, which does not exist")


def _python(files: Files) -> list[str]:
    """The text of the Python files."""
    return [
        file.read_text(encoding="utf-8")
        for name, file in files.items()
        if name.endswith(".py") and isinstance(file, Path)
    ]


def _requirements(own: Path | bytes | None) -> str:
    """The Space's own lines, then hf_wbc's dependencies that they do not include."""
    lines = own.read_text(encoding="utf-8").splitlines() if isinstance(own, Path) else []
    lines = [line for line in lines if _distribution(line) != "hf-wbc"]
    named = {_distribution(line) for line in lines}
    needed = [each for each in _dependencies() if _distribution(each) not in named]
    return "\n".join([*lines, *needed]) + "\n"


def _dependencies() -> list[str]:
    """hf_wbc's dependencies, from pyproject.toml in a checkout or the installed metadata."""
    import hf_wbc

    project = Path(hf_wbc.__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        found: list[str] = tomllib.loads(project.read_text(encoding="utf-8"))["project"][
            "dependencies"
        ]
        return found
    return [each for each in importlib.metadata.requires("hf_wbc") or [] if "extra ==" not in each]


def _distribution(line: str) -> str:
    """The normalized package name in a requirements line; empty if there is none."""
    match = _NAME.match(line.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""
