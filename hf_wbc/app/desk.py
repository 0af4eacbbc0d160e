"""From files to answers: what the page and the endpoints share, without a component of either."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.scales import parse_scale
from hf_wbc.app.uploads import Given, Picture, Refused, Uploads, read_uploads, remove_all
from hf_wbc.engine.cell_answer import CellAnswer
from hf_wbc.engine.predictor import Predictor

BATCH = 32
GUESSED_FROM = 96
"""Cells, evenly spaced, from which the scale of all of them is guessed."""
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Case:
    """A picture, what the model says of it, and what a person says instead."""

    number: int
    """From 1, in the order of arrival."""
    picture: Picture
    answer: CellAnswer
    corrected: int | None = None

    @property
    def label(self) -> int:
        """The person's class where there is one, the model's otherwise."""
        return self.answer.label if self.corrected is None else self.corrected


@dataclass(frozen=True)
class Slide:
    """All that a session holds: gone with it."""

    cases: tuple[Case, ...] = ()
    refused: tuple[Refused, ...] = ()
    num_left: int = 0
    """Pictures without an answer, as the time was over."""

    def corrected(self, number: int, label: int | None) -> "Slide":
        """The slide with a person's class for one cell; None takes it back."""
        cases = tuple(
            replace(case, corrected=label) if case.number == number else case for case in self.cases
        )
        return replace(self, cases=cases)


@dataclass(frozen=True)
class Desk:
    """A model, ready to answer, and what it may be asked."""

    predictor: Predictor
    model: str
    """Where it was loaded from, as a person wrote it."""
    laboratories: Mapping[str, float] = field(default_factory=dict)
    """um per pixel by name."""
    limits: Limits = LIMITS
    others: tuple[str, ...] = ()
    """Models that the page compares with it."""
    is_toy: bool = False
    """It has seen drawings alone."""

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
    def blasts_from(self) -> float | None:
        """Probability from which the model's own review looks at a blast; None where unknown."""
        abstention = self.predictor.abstention
        review = None if abstention is None else abstention.reviews.get("myeloblast")
        return None if review is None else review.threshold

    @cached_property
    def title(self) -> str:
        """The model's name: of a run its folder's."""
        path = Path(self.model)
        return path.resolve().parent.name if path.name == "model" else path.name

    def scale(self, said: str | float | None) -> float | None:
        """um per pixel as a person says it; None to guess. ValueError for what is no scale."""
        return parse_scale(said, self.laboratories)

    def take(self, given: Sequence[Given]) -> Uploads:
        """The pictures of some files, which are deleted whatever happens."""
        try:
            return read_uploads(given, self.limits)
        finally:
            remove_all(given)

    def answers(
        self,
        pictures: Sequence[Picture],
        um_per_px: float | None,
        report: Report = lambda done, total: None,
    ) -> list[CellAnswer]:
        """One answer a picture, in order; fewer when the time is over.

        Pictures of unknown scale are taken to be of one microscope. ValueError for a scale that
        cannot be.
        """
        end = time.monotonic() + self.limits.seconds
        is_guess = um_per_px is None and len(pictures) > 1
        if is_guess:
            some = pictures[:: -(-len(pictures) // GUESSED_FROM)]
            um_per_px = self.predictor.predict([one.pixels for one in some])[0].um_per_px
        found: list[CellAnswer] = []
        # A model that measures a laboratory's stain has to see all of its cells together.
        at_once = len(pictures) if self.predictor.loaded.rule.measures else BATCH
        for start in range(0, len(pictures), max(at_once, 1)):
            if start and time.monotonic() > end:
                break
            report(start, len(pictures))
            batch = [one.pixels for one in pictures[start : start + at_once]]
            found += self.predictor.predict(batch, um_per_px)
        report(len(found), len(pictures))
        return [replace(one, scale_guessed=True) for one in found] if is_guess else found

    def slide(
        self, before: Slide, uploads: Uploads, um_per_px: float | None, report: Report
    ) -> Slide:
        """The slide with more pictures, all of them answered anew at a scale.

        What a person said of a cell stays.
        """
        pictures = [*(case.picture for case in before.cases), *uploads.pictures]
        num_pixels = sum(picture.pixels.nbytes for picture in pictures)
        refused = (*before.refused, *uploads.refused)
        if len(pictures) > self.limits.num_cells or num_pixels > self.limits.total_bytes:
            why = "more than one slide may hold here; start over, or give fewer cells"
            pictures = pictures[: len(before.cases)]
            refused = (*refused, Refused(f"{len(uploads.pictures):,} pictures", why))
        answers = self.answers(pictures, um_per_px, report)
        said = {case.number: case.corrected for case in before.cases}
        cases = tuple(
            Case(number, picture, answer, said.get(number))
            for number, (picture, answer) in enumerate(zip(pictures, answers, strict=False), 1)
        )
        return Slide(cases, refused, len(pictures) - len(answers))
