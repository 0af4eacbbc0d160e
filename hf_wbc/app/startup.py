"""Which model the page opens with: the one that was asked for, the newest run's, or the toy."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.service import PageModel, Service
from hf_wbc.records import RunFolder
from hf_wbc.shipped import shipped

TOY = "spaces/wbc/toy_model"
"""A network of 60,000 weights that has seen drawings: so small that it ships with the code."""


def find_model(model: str | None, runs: Path) -> str:
    """The model to load: `model`, else the newest finished run in `runs`, else the shipped toy."""
    if model is not None:
        return model
    finished = [folder for folder in _runs(runs) if folder.finished and folder.model.is_dir()]
    if not finished:
        return str(shipped(TOY))
    return str(max(finished, key=lambda folder: folder.record.stat().st_mtime).model)


def make_service(
    model: str,
    others: Sequence[str],
    laboratories: Mapping[str, float],
    limits: Limits = LIMITS,
) -> Service:
    """The desk of a model and of `others` to compare it with; none of them is loaded yet.

    ValueError at once for a name that can be neither a folder nor a model of the Hub.
    """
    for name in (model, *others):
        _refuse_impossible(name)
    return Service(
        PageModel(model),
        dict(laboratories),
        limits,
        tuple(PageModel(name) for name in dict.fromkeys(others)),
        is_toy=Path(model).name == Path(TOY).name,
    )


def load_in_background(desk: Service, say: Callable[[str], None]) -> None:
    """Load the desk's model in another thread, then those to compare; the page answers when it can.

    `say` is told of each model that cannot be compared. The thread that waits meanwhile hears
    Ctrl-C: within the import of a library, which takes long, Python may lose it.
    """

    def load() -> None:
        if desk.own.load() is not None:
            return
        for other in desk.others:
            if (error := other.load()) is not None:
                say(f"--compare {other.name} cannot be compared: {error}")

    Thread(target=load, daemon=True).start()


def _refuse_impossible(name: str) -> None:
    """In the words of whoever would load it."""
    path = Path(name)
    if (path / "config.json").is_file() or (not path.is_dir() and name.count("/") == 1):
        return
    from hf_wbc.models import load_trained

    load_trained(name)


def _runs(root: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in root.iterdir()] if root.is_dir() else []
