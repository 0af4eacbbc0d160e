"""Which model the page opens with: the one that was asked for, the newest run's, or the toy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_wbc.app.desk import Desk
from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.others import Others, require_there
from hf_wbc.app.record import record_of
from hf_wbc.engine.predictor import Predictor
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
    """The desk of a model; it has answered once, so that the first visitor waits for nothing.

    ValueError for a model that is not there or not of the eleven classes, `others` among them as
    far as that is quickly told; whoever serves the desk starts to load those.
    """
    from hf_wbc.app.examples import EXAMPLES, draw_example

    require_there(others)
    desk = Desk(
        Predictor.load(model),
        model,
        dict(laboratories),
        limits,
        Others(others),
        record_of(model),
        is_toy=Path(model).name == Path(TOY).name,
    )
    desk.answer(draw_example(EXAMPLES[0]), EXAMPLES[0].um_per_px)
    return desk


def _runs(root: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in root.iterdir()] if root.is_dir() else []
