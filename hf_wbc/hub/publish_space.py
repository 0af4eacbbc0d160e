"""A Space as a publication: its folder, and hf_wbc itself beside app.py where the app imports it.

hf_wbc may not be on the package index, and a Space that asks for it there would not start. So its
files lie in the Space, and its dependencies stand in the Space's requirements.txt.

Which model a published Space shows: looked at, named in its card, told to it as a variable."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import yaml

from hf_wbc.data.image_io import IMAGE_SUFFIXES
from hf_wbc.hub.client import Report, request
from hf_wbc.hub.publication import CARD, Destination, HubRepo, Publication, PublishFolder
from hf_wbc.hub.repository import MAIN, inspect_repository
from hf_wbc.inference.gallery import REFERENCE_FILE as REFERENCE
from hf_wbc.models import load_trained
from hf_wbc.shipped import shipped

VARIABLE = "HF_WBC_MODEL"
"""What spaces/wbc/app.py reads."""
_MODEL = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")


def with_model(card: str, model: str) -> str:
    """The Space's README with the model in its front matter, where the Hub links to it.

    ValueError unless it is `org/name[@revision]`: a folder is not where the Space is.
    """
    from huggingface_hub import RepoCard

    if not _MODEL.fullmatch(model):
        raise ValueError(
            f"--model is {model!r}, and a Space finds its model on the Hub: publish it first, and "
            "give org/name[@revision]"
        )
    made = RepoCard(card, ignore_metadata_errors=True)
    made.data["models"] = [model.partition("@")[0]]
    return str(made)


def require_model(model: str, public: bool, report: Report) -> None:
    """ValueError unless the Hub's model loads as it will in the Space.

    And where everybody would see the Space, and in it cells that the model keeps to its owners.
    """
    from hf_wbc.hub.to_hub import connect

    api, (name, _, revision) = connect(report), model.partition("@")
    found = inspect_repository(api, HubRepo(name, "model"), revision or MAIN, report)
    if found is None:
        raise ValueError(
            f"--model {model} is not at {api.endpoint}, or no token of yours reaches it; publish "
            "it first, or check its name and revision"
        )
    load_trained(model)
    if public and found.private and REFERENCE in found.paths:
        raise ValueError(
            f"--model {model} is private and holds pictures of cells ({REFERENCE}), and the Space "
            "would show them to everybody; publish it with --private"
        )


def show_model(destination: Destination, model: str, report: Report) -> None:
    """Set the variable by which the Space on the Hub finds its model."""
    assert isinstance(destination, HubRepo)
    from hf_wbc.hub.to_hub import connect

    api = connect(report)
    request(
        f"setting {VARIABLE}",
        lambda: api.add_space_variable(destination.repo_id, VARIABLE, model),
        destination.repo_id,
        report,
    )
    report(
        f"{destination} shows {model}; if that is private, put a token that may read it into the "
        "Space's settings as the secret HF_TOKEN"
    )


METRIC = "wbc_macro_f1"
REQUIREMENTS = "requirements.txt"
_PACKAGES = ("hf_wbc", "dataset_scripts")
_SHIPPED = ("model_cards",)
"""What an app may need of them; Spaces need no Spaces."""
_HIDDEN = ("__pycache__",)
_IMPORTS = re.compile(r"^\s*(?:from|import)\s+(?:hf_wbc|dataset_scripts)\b", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
Files = dict[str, Path | bytes]


def space_publication(
    what: str,
    destination: Destination,
    *,
    model: str | None = None,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The Space in a folder, or a shipped one by its name, `wbc`.

    Its card names the `model` that it is to show. Without a word on who may see it, a shipped one
    is public, and anyone's own is private: it may hold images.

    ValueError for a folder without a README that says how it starts, and for a name that is none.
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
    pictures = [name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
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
    """The metric's Space, which works without hf_wbc: `evaluate.load("org/wbc_macro_f1")`.

    ValueError for another name: evaluate looks for a file of the repository's own.
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
            f"--to ends in {name}, and evaluate.load would look there for {name}.py; name it "
            f"{scripts[0] if scripts else METRIC}"
        )
    return Publication(
        kind="metric",
        files=files,
        public=True if public is None else public,
        message=f"The metric {name}",
        tag=tag,
    )


def package_files() -> Files:
    """hf_wbc and its sources as a Space holds them, with the templates where a wheel has them."""
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
    """Where a Space lies; ValueError lists the shipped ones."""
    path = Path(what)
    if path.is_dir():
        return path.resolve()
    if (there := _shipped_folder(what)) is not None:
        return there
    known = ", ".join(sorted(path.name for path in shipped("spaces").iterdir() if path.is_dir()))
    raise ValueError(f"{what} is no folder and no Space that is shipped; shipped are {known}")


def _shipped_folder(name: str) -> Path | None:
    if not _NAME.fullmatch(name):
        return None
    path = shipped("spaces") / name
    return path.resolve() if path.is_dir() else None


def _tree(folder: Path) -> Files:
    """Every file below, by its path in the folder; nothing hidden, and nothing compiled."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _is_hidden(path.relative_to(folder))
    }


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in _HIDDEN for part in path.parts)


def _check_card(folder: Path, files: Files) -> None:
    """ValueError unless the README's front matter says how the Space starts."""
    card = files.get(CARD)
    text = card.read_text(encoding="utf-8") if isinstance(card, Path) else ""
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    facts = yaml.safe_load(front[1]) if front else None
    facts = facts if isinstance(facts, dict) else {}
    if lacking := [key for key in ("sdk", "sdk_version", "app_file") if not facts.get(key)]:
        raise ValueError(
            f"{folder / CARD} does not say {', '.join(lacking)} between its --- lines, so the "
            "Space would not start; spaces/wbc_macro_f1/README.md shows how"
        )
    if facts["app_file"] not in files:
        raise ValueError(f"{folder / CARD} says app_file {facts['app_file']}, which is not there")


def _python(files: Files) -> list[str]:
    """The texts of its Python files."""
    return [
        file.read_text(encoding="utf-8")
        for name, file in files.items()
        if name.endswith(".py") and isinstance(file, Path)
    ]


def _requirements(own: Path | bytes | None) -> str:
    """The Space's own lines, then hf_wbc's dependencies that they do not name."""
    lines = own.read_text(encoding="utf-8").splitlines() if isinstance(own, Path) else []
    lines = [line for line in lines if _distribution(line) != "hf-wbc"]
    named = {_distribution(line) for line in lines}
    needed = [each for each in _dependencies() if _distribution(each) not in named]
    return "\n".join([*lines, *needed]) + "\n"


def _dependencies() -> list[str]:
    """Of hf_wbc: in a checkout its pyproject.toml's, else those that it was installed with."""
    import hf_wbc

    project = Path(hf_wbc.__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        found: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
        return found
    return [each for each in importlib.metadata.requires("hf_wbc") or [] if "extra ==" not in each]


def _distribution(line: str) -> str:
    """The package that a line asks for, in the index's spelling; empty for none."""
    match = _NAME.match(line.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""
