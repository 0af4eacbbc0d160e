"""From files to answers: what the page and the endpoints share, without a component of either.

The models of a page, loaded while it is open already: whoever needs one waits for it."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hf_wbc.app.examples import EXAMPLES, draw_example
from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.run_scores import load_run_record
from hf_wbc.app.scale_input import parse_scale
from hf_wbc.app.slide_state import Slide, SlidePredictions
from hf_wbc.app.uploads import UploadedFile, UploadedImage, Uploads, read_uploads, remove_all
from hf_wbc.data.crop import guess_scale
from hf_wbc.data.nucleus import find_nucleus
from hf_wbc.inference.cell_prediction import CellPrediction
from hf_wbc.inference.predictor import DEFAULT_UM_PER_PX

if TYPE_CHECKING:
    from hf_wbc.inference.predictor import Predictor


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

            found = Predictor.load(self.name), load_run_record(self.name)
            found[0].predict([draw_example(EXAMPLES[0]).pixels], EXAMPLES[0].um_per_px)
        except Exception as error:  # of whatever kind: nobody may wait for it for ever
            self.settled.set_exception(error)
            return error
        self.settled.set_result(found)
        return None


BATCH = 32
GUESSED_FROM = 96
"""Cells, evenly spaced, from which the scale of all of them is guessed."""
SAME_GUESS = 0.05
"""Guesses that differ by less, of the other, are one: more cells do not change a slide's scale."""
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Service:
    """A model and what it may be asked; until it is loaded, whoever asks waits."""

    own: PageModel
    laboratories: Mapping[str, float] = field(default_factory=dict)
    """um per pixel by name."""
    limits: Limits = LIMITS
    others: tuple[PageModel, ...] = ()
    """Models that the page compares with it."""
    is_toy: bool = False
    """It has seen drawings alone."""

    @property
    def predictor(self) -> "Predictor":
        """The model."""
        return self.own.predictor

    def wait(self) -> None:
        """Until the model is there: nothing that answers may be imported by two threads at once."""
        self.own.settled.result()

    @property
    def alpha(self) -> float | None:
        """The share of conformal sets that may miss the class; None without sets."""
        abstention = self.predictor.abstention
        return None if abstention is None else abstention.within_class.alpha

    @property
    def always_in_set(self) -> frozenset[int]:
        """Classes of which too few cells were held out to leave them out of a conformal set."""
        abstention = self.predictor.abstention
        limits = () if abstention is None else abstention.within_class.thresholds
        return frozenset(label for label, limit in enumerate(limits) if limit is None)

    @property
    def untaught(self) -> tuple[int, ...]:
        """Classes of which the model never saw a cell: it cannot name one."""
        abstention = self.predictor.abstention
        numbers = () if abstention is None else abstention.num_images
        return tuple(label for label, num in enumerate(numbers) if not num)

    @property
    def blasts_from(self) -> float | None:
        """Probability from which the model's own review looks at a blast; None where unknown."""
        abstention = self.predictor.abstention
        review = None if abstention is None else abstention.reviews.get("myeloblast")
        return None if review is None else review.threshold

    @property
    def title(self) -> str:
        """The model's name."""
        return model_title(self.own.name)

    def scale(self, said: str | float | None) -> float | None:
        """um per pixel as a person says it; None to guess. ValueError for what is no scale."""
        return parse_scale(said, self.laboratories)

    def take(self, given: Sequence[UploadedFile]) -> Uploads:
        """The pictures of some files, once the model is there; the files are deleted anyhow."""
        try:
            self.wait()
            return read_uploads(given, self.limits)
        finally:
            remove_all(given)

    def answer(self, picture: UploadedImage, um_per_px: float | None) -> CellPrediction:
        """The answer to one picture; None lets its scale be guessed.

        ValueError for a scale that cannot be.
        """
        return self.predictor.predict([picture.pixels], um_per_px)[0]

    def read(
        self,
        slide: Slide,
        um_per_px: float | None,
        report: Report = lambda done, total: None,
    ) -> SlidePredictions:
        """Answers to what waits on a slide, or to all of it at another scale than before.

        None lets the scale be guessed, of all pictures together. When the time is over the rest
        has no answer yet; at least one batch has. ValueError for a scale that cannot be.
        """
        every = slide.every
        is_guess, is_assumed = um_per_px is None, False
        if um_per_px is None:
            um_per_px, is_assumed = _guessed([one.picture for one in every], slide.scale)
        # A model that measures a laboratory's stain has to see all of its cells together.
        measures = self.predictor.pretrained.rule.needs_images
        is_other = slide.scale not in (None, (um_per_px, is_guess))
        anew = is_other or (measures and bool(slide.cases and slide.waiting))
        todo = every if anew else slide.waiting
        pixels = [one.picture.pixels for one in todo]
        end = time.monotonic() + self.limits.seconds
        found: list[CellPrediction] = []
        at_once = len(todo) if measures else BATCH
        for start in range(0, len(todo), max(at_once, 1)):
            if start and time.monotonic() > end:
                break
            report(start, len(todo))
            found += self.predictor.predict(pixels[start : start + at_once], um_per_px)
        report(len(found), len(todo))
        if is_guess:
            found = [replace(one, scale_guessed=True) for one in found]
        answers = {one.number: answer for one, answer in zip(todo, found, strict=False)}
        return SlidePredictions(answers, anew, is_assumed)


def model_title(model: str) -> str:
    """A model's name: of a run its folder's.

    >>> title_of("runs/6dab9185a933/model"), title_of("org/name@v1")
    ('6dab9185a933', 'name@v1')
    """
    path = Path(model)
    return path.resolve().parent.name if path.name == "model" else path.name


def _guessed(
    pictures: Sequence[UploadedImage], before: tuple[float, bool] | None
) -> tuple[float, bool]:
    """um per pixel of pictures of one microscope, and whether nothing in them tells it.

    It is the guess `before`, where that is about the same.
    """
    some = pictures[:: max(-(-len(pictures) // GUESSED_FROM), 1)]
    found = guess_scale([find_nucleus(one.pixels) for one in some])
    um_per_px = DEFAULT_UM_PER_PX if found is None else found
    if before is not None:
        known, was_guess = before
        if was_guess and abs(um_per_px - known) <= SAME_GUESS * known:
            um_per_px = known
    return um_per_px, found is None
