"""A slide: pictures of cells, what the model says of them, and what a person says instead."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hf_wbc.app.limits import Limits
from hf_wbc.app.uploads import RejectedFile, UploadedImage, Uploads
from hf_wbc.inference.cell_prediction import CellPrediction


@dataclass(frozen=True)
class SlideCell:
    """A picture, what the model says of it, and what a person says instead."""

    number: int
    """From 1, in the order of arrival."""
    picture: UploadedImage
    answer: CellPrediction
    corrected: int | None = None

    @property
    def label(self) -> int:
        """The person's class where there is one, the model's otherwise."""
        return self.answer.label if self.corrected is None else self.corrected


@dataclass(frozen=True)
class PendingCell:
    """A picture that the model has still to answer, at the slide's scale."""

    number: int
    picture: UploadedImage
    corrected: int | None = None
    """What a person said of it before the scale was another."""


@dataclass(frozen=True)
class SlidePredictions:
    """What the model said in one go, by the pictures' numbers."""

    answers: Mapping[int, CellPrediction]
    anew: bool
    """Every answer from before is void: the scale is another one."""
    assumed: bool = False
    """Nothing in the pictures tells their scale."""


@dataclass(frozen=True)
class Slide:
    """All pictures of a slide; nothing that a person gave or said is ever dropped from it."""

    cases: tuple[SlideCell, ...] = ()
    waiting: tuple[PendingCell, ...] = ()
    """As the time for one go was over, or no scale was understood yet."""
    refused: tuple[RejectedFile, ...] = ()
    assumed: bool = False
    """The scale is a guess by nothing in the pictures."""

    @property
    def every(self) -> tuple[SlideCell | PendingCell, ...]:
        """All pictures in the order of arrival."""
        both: tuple[SlideCell | PendingCell, ...] = (*self.cases, *self.waiting)
        return tuple(sorted(both, key=lambda one: one.number))

    @property
    def num_bytes(self) -> int:
        """Of the pictures in memory."""
        return sum(one.picture.pixels.nbytes for one in self.every)

    @property
    def scale(self) -> tuple[float, bool] | None:
        """um per pixel at which the cases were read, and whether it is a guess."""
        if not self.cases:
            return None
        answer = self.cases[0].answer
        return answer.um_per_px, answer.scale_guessed

    def added(self, uploads: Uploads, limits: Limits) -> "Slide":
        """The slide with more pictures, which wait; with none of them when they are too many.

        A picture that is there already is refused: no cell counts twice.
        """
        before = len(self.cases) + len(self.waiting)
        places = {one.picture.digest: one.number for one in self.every}
        refused = [*self.refused, *uploads.refused]
        new: list[PendingCell] = []
        for picture in uploads.pictures:
            number = before + len(new) + 1
            if (place := places.setdefault(picture.digest, number)) == number:
                new.append(PendingCell(number, picture))
            else:
                refused.append(RejectedFile(picture.name, f"the same picture as no. {place}"))
        num_bytes = self.num_bytes + sum(one.picture.pixels.nbytes for one in new)
        if before + len(new) > limits.num_cells or num_bytes > limits.total_bytes:
            why = "more than one slide may hold here; start over, or give fewer cells"
            refused, new = [*refused, RejectedFile(f"{len(new):,} pictures", why)], []
        return replace(self, waiting=(*self.waiting, *new), refused=tuple(refused))

    def answered(self, reading: SlidePredictions) -> "Slide":
        """The slide with more answers; pictures that have none wait, with their corrections."""
        known = {} if reading.anew else {case.number: case.answer for case in self.cases}
        known |= reading.answers
        every = self.every
        return replace(
            self,
            assumed=reading.assumed,
            cases=tuple(
                SlideCell(one.number, one.picture, known[one.number], one.corrected)
                for one in every
                if one.number in known
            ),
            waiting=tuple(
                PendingCell(one.number, one.picture, one.corrected)
                for one in every
                if one.number not in known
            ),
        )

    def corrected(self, number: int, label: int | None) -> "Slide":
        """The slide with a person's class for one cell; None takes it back."""
        return replace(
            self,
            cases=tuple(
                replace(one, corrected=label) if one.number == number else one for one in self.cases
            ),
            waiting=tuple(
                replace(one, corrected=label) if one.number == number else one
                for one in self.waiting
            ),
        )
