"""The models of a page, loaded while it is open already: whoever needs one waits for it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from hf_wbc.app.record import record_of

if TYPE_CHECKING:
    from hf_wbc.engine.predictor import Predictor


class PageModel:
    """A model and the record of its run; to ask for either waits until both are there."""

    def __init__(self, name: str) -> None:
        """`name` is a folder or `org/name[@revision]`, as a person wrote it."""
        self.name = name
        self._found: Future[tuple[Predictor, Mapping[str, Any] | None]] = Future()

    @classmethod
    def loaded(
        cls, name: str, predictor: "Predictor", record: Mapping[str, Any] | None = None
    ) -> Self:
        """One that is there."""
        found = cls(name)
        found._found.set_result((predictor, record))
        return found

    @property
    def is_there(self) -> bool:
        """Whether it can be asked for without waiting."""
        return self._found.done()

    @property
    def predictor(self) -> "Predictor":
        """The model; raises what `load` raised."""
        return self._found.result()[0]

    @property
    def record(self) -> Mapping[str, Any] | None:
        """Of the run that trained it, or None where it came without; raises what `load` raised."""
        return self._found.result()[1]

    def load(self) -> None:
        """Load it, once; ValueError for what is no model of the eleven classes."""
        from hf_wbc.engine.predictor import Predictor

        try:
            self._found.set_result((Predictor.load(self.name), record_of(self.name)))
        except BaseException as error:  # of whatever kind: nobody may wait for it for ever
            self._found.set_exception(error)
            raise


def load_behind(models: Sequence[PageModel], say: Callable[[str], None]) -> None:
    """Load one after another in another thread; `say` is told of each that cannot be."""

    def load() -> None:
        for model in models:
            try:
                model.load()
            except Exception as error:  # the page says so too, when it is asked to compare
                say(f"--compare {model.name} cannot be compared: {error}")

    Thread(target=load, daemon=True).start()


def require_there(names: Sequence[str]) -> None:
    """ValueError for a folder that is not there, or holds no model of the eleven classes.

    Those of the Hub are not asked for yet.
    """
    from hf_wbc.models.checkpoint import fetch_checkpoint
    from hf_wbc.models.labels import labels_of, require_labels

    for name in names:
        if Path(name).is_dir() or name.count("/") != 1:
            require_labels(name, labels_of(fetch_checkpoint(name).config()))
