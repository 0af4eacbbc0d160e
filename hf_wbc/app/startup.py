"""Choose the model that the page opens with, and load it in the background."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.uploads import start_workers
from hf_wbc.records import RunFolder
from hf_wbc.shipped import shipped

SHIPPED = "spaces/wbc/model"
"""An EfficientNet-Lite0 trained on Acevedo_20 (see its README.md), shipped with the code."""
TOY = "spaces/wbc/toy_model"
"""A network of 60,000 weights, trained on drawings alone and shipped for tests of the page."""


def find_model(model: str | None, runs: Path) -> str:
    """Return `model` if given, else the newest finished run in `runs`, else the shipped model."""
    if model is not None:
        return model
    finished = [folder for folder in _runs(runs) if folder.finished and folder.model.is_dir()]
    if not finished:
        return str(shipped(SHIPPED))
    return str(max(finished, key=lambda folder: folder.record.stat().st_mtime).model)


def make_service(
    model: str,
    others: Sequence[str],
    laboratories: Mapping[str, float],
    limits: Limits = LIMITS,
) -> Service:
    """Create the service for a model and `others` to compare it with, without loading them.

    Raises:
        ValueError: If a name can be neither a model folder nor a model on the Hub.
    """
    for name in (model, *others):
        _require_loadable(name)
    return Service(
        PageModel(model),
        dict(laboratories),
        limits,
        tuple(PageModel(name) for name in dict.fromkeys(others)),
        is_toy=Path(model).name == Path(TOY).name,
    )


def load_in_background(service: Service, on_event: Callable[[str], None]) -> None:
    """Load the service's model in another thread, then the models to compare.

    `on_event` receives one line for each model that cannot be compared. The calling thread stays
    free to handle Ctrl-C, which Python can lose while it imports a library.
    """

    def load() -> None:
        start_workers()
        if service.own.load() is not None:
            return
        for other in service.others:
            if (error := other.load()) is not None:
                on_event(f"--compare {other.name} cannot be compared: {error}")

    Thread(target=load, daemon=True).start()


def _require_loadable(name: str) -> None:
    """Raise the loader's error for a name that cannot be loaded."""
    path = Path(name)
    if (path / "config.json").is_file() or (not path.is_dir() and name.count("/") == 1):
        return
    from hf_wbc.models import load_trained

    load_trained(name)


def _runs(root: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in root.iterdir()] if root.is_dir() else []
