"""Which model the page opens with: the one that was asked for, the newest run's, or the toy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_wbc.app.desk import Desk
from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.page_model import PageModel, require_there
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


def make_desk(
    model: str,
    others: Sequence[str],
    laboratories: Mapping[str, float],
    limits: Limits = LIMITS,
) -> Desk:
    """The desk of a model and of `others` to compare it with; none of them is loaded yet.

    ValueError at once for a model that can be neither a folder nor of the Hub; `make_ready` finds
    whatever else is wrong with it.
    """
    _require_likely(model)
    return Desk(
        PageModel(model),
        dict(laboratories),
        limits,
        tuple(PageModel(name) for name in dict.fromkeys(others)),
        is_toy=Path(model).name == Path(TOY).name,
    )


def make_ready(desk: Desk) -> None:
    """Load the desk's model, and let it answer once: the first visitor waits for nothing more.

    ValueError for a model that is not there or not of the eleven classes, those to compare among
    them as far as that is quickly told.
    """
    from hf_wbc.app.examples import EXAMPLES, draw_example

    require_there([other.name for other in desk.others])
    desk.own.load()
    desk.answer(draw_example(EXAMPLES[0]), EXAMPLES[0].um_per_px)


def _require_likely(model: str) -> None:
    path = Path(model)
    if (path / "config.json").is_file() or (not path.is_dir() and model.count("/") == 1):
        return
    from hf_wbc.models import load_trained

    load_trained(model)  # says what is wrong with it


def _runs(root: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in root.iterdir()] if root.is_dir() else []
