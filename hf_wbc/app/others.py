"""The models that a page compares with its own, loaded one after another while it is open."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

from hf_wbc.app.record import record_of
from hf_wbc.engine.predictor import Predictor
from hf_wbc.models.checkpoint import fetch_checkpoint
from hf_wbc.models.labels import labels_of, require_labels

Loaded = tuple[Predictor, Mapping[str, Any] | None]
"""A model and the record of its run."""


class Others:
    """Loads in the background, so that the page opens at once and its first visitor waits less."""

    def __init__(self, models: Sequence[str] = ()) -> None:
        """`models` are folders or `org/name[@revision]`."""
        self.models = tuple(dict.fromkeys(models))
        self._found: dict[str, Future[Loaded]] = {model: Future() for model in self.models}

    def start(self, say: Callable[[str], None]) -> None:
        """Begin to load; `say` is told of each model that cannot be, and the page says so too."""
        if self.models:
            Thread(target=self._load, args=(say,), daemon=True).start()

    def get(self, model: str) -> Predictor:
        """A model, once it is loaded; ValueError for one that cannot be."""
        return self._found[model].result()[0]

    def record(self, model: str) -> Mapping[str, Any] | None:
        """Its run's record, or None where it came without; as `get`."""
        return self._found[model].result()[1]

    def _load(self, say: Callable[[str], None]) -> None:
        for model, found in self._found.items():
            try:
                found.set_result((Predictor.load(model), record_of(model)))
            except Exception as error:  # of whatever kind: nobody may wait for it for ever
                found.set_exception(error)
                say(f"--compare {model} cannot be compared: {error}")


def require_there(models: Sequence[str]) -> None:
    """ValueError for a folder that is not there, or holds no model of the eleven classes.

    Those of the Hub are not asked for yet.
    """
    for model in models:
        if Path(model).is_dir() or model.count("/") != 1:
            require_labels(model, labels_of(fetch_checkpoint(model).config()))
