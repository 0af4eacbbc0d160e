"""The models of a page, loaded while it is open already: whoever needs one waits for it."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from hf_wbc.app.examples import EXAMPLES, draw_example
from hf_wbc.app.record import record_of

if TYPE_CHECKING:
    from hf_wbc.inference.predictor import Predictor

    Loaded = tuple[Predictor, Mapping[str, Any] | None]


class PageModel:
    """A model and the record of its run; to ask for either waits until both are there."""

    def __init__(self, name: str) -> None:
        """`name` is a folder or `org/name[@revision]`, as a person wrote it."""
        self.name = name
        self.settled: Future[Loaded] = Future()
        """Done as soon as it is there, or cannot be."""
        self.settled.set_running_or_notify_cancel()  # whoever leaves cancels it for nobody else

    @classmethod
    def loaded(
        cls, name: str, predictor: "Predictor", record: Mapping[str, Any] | None = None
    ) -> Self:
        """One that is there."""
        found = cls(name)
        found.settled.set_result((predictor, record))
        return found

    @property
    def predictor(self) -> "Predictor":
        """The model; raises what went wrong."""
        return self.settled.result()[0]

    @property
    def record(self) -> Mapping[str, Any] | None:
        """Of the run that trained it, or None where it came without; raises what went wrong."""
        return self.settled.result()[1]

    def load(self) -> Exception | None:
        """Load it, and let it answer once, so that its first visitor waits for nothing more.

        What went wrong: a ValueError for what is no model of the eleven classes.
        """
        try:
            from hf_wbc.app.answering import Predictor

            found = Predictor.load(self.name), record_of(self.name)
            found[0].predict([draw_example(EXAMPLES[0]).pixels], EXAMPLES[0].um_per_px)
        except Exception as error:  # of whatever kind: nobody may wait for it for ever
            self.settled.set_exception(error)
            return error
        self.settled.set_result(found)
        return None
