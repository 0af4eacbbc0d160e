"""The state of a slide: cell images, predictions, and corrections by a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from hf_wbc.app.limits import Limits
from hf_wbc.app.uploads import RejectedFile, UploadedImage, Uploads

if TYPE_CHECKING:
    from hf_wbc.data.scale import ScaleEstimate
    from hf_wbc.inference.cell_prediction import CellPrediction


@dataclass(frozen=True)
class SlideCell:
    """An image with its prediction and a person's correction."""

    number: int
    """Starts at 1, in the order of arrival."""
    picture: UploadedImage
    prediction: "CellPrediction"
    corrected: int | None = None

    @property
    def label(self) -> int:
        """The corrected class if there is one, else the predicted class."""
        return self.prediction.label if self.corrected is None else self.corrected


@dataclass(frozen=True)
class PendingCell:
    """An image without a prediction at the slide's scale."""

    number: int
    picture: UploadedImage
    corrected: int | None = None
    """A correction from before the scale changed."""


@dataclass(frozen=True)
class SlidePredictions:
    """The predictions of one request, by image number."""

    predictions: "Mapping[int, CellPrediction]"
    replaces_all: bool
    """Whether all earlier predictions are invalid because the scale changed."""
    estimate: "ScaleEstimate | None" = None
    """The estimate that the scale is taken from; None if a person gave the scale."""
    found: "Mapping[int, Sequence[tuple[UploadedImage, CellPrediction]]]" = field(
        default_factory=dict
    )
    """By number of an image that is a field of view: the cells found in it."""
    cut_again: "Mapping[int, UploadedImage]" = field(default_factory=dict)
    """By number of a cell found in a field: its crop at the new scale."""
    scale_notes: tuple[str, ...] = ()
    """Reasons to doubt that all images have this scale."""
    refused: tuple[RejectedFile, ...] = ()
    """Fields with more cells than a sample can hold."""


@dataclass(frozen=True)
class Slide:
    """All images of a slide. Images and corrections are never dropped."""

    cases: tuple[SlideCell, ...] = ()
    waiting: tuple[PendingCell, ...] = ()
    """Not predicted yet: the time limit was reached, or the scale is not known."""
    refused: tuple[RejectedFile, ...] = ()
    estimate: "ScaleEstimate | None" = None
    """The estimate that the scale is taken from; None if a person gave the scale."""
    scale_notes: tuple[str, ...] = ()
    """Reasons to doubt that all images have the same scale."""

    @property
    def every(self) -> tuple[SlideCell | PendingCell, ...]:
        """All images in the order of arrival."""
        both: tuple[SlideCell | PendingCell, ...] = (*self.cases, *self.waiting)
        return tuple(sorted(both, key=lambda one: one.number))

    @property
    def num_bytes(self) -> int:
        """Memory that the images use; the cells of a field share its memory."""
        kept = {one.digest: one for one in (each.picture.whole for each in self.every)}
        return sum(one.pixels.nbytes for one in kept.values())

    @property
    def scale(self) -> "float | ScaleEstimate | None":
        """Um per pixel of the predictions, or the estimate of it; None without predictions."""
        if not self.cases:
            return None
        return self.cases[0].prediction.um_per_px if self.estimate is None else self.estimate

    @property
    def um_per_px(self) -> float | None:
        """Scale of the predictions; None without predictions."""
        return self.cases[0].prediction.um_per_px if self.cases else None

    def added(self, uploads: Uploads, limits: Limits) -> "Slide":
        """Add images as pending cells; add none if there would be too many.

        Identical images are rejected, so that no cell counts twice.
        """
        before = len(self.cases) + len(self.waiting)
        places = {one.picture.whole.digest: one.number for one in reversed(self.every)}
        places |= {one.picture.digest: one.number for one in self.every}
        refused = [*self.refused, *uploads.refused]
        new: list[PendingCell] = []
        for picture in uploads.pictures:
            number = before + len(new) + 1
            if (place := places.setdefault(picture.digest, number)) == number:
                new.append(PendingCell(number, picture))
            else:
                refused.append(RejectedFile(picture.name, f"identical to image no. {place}"))
        num_bytes = self.num_bytes + sum(one.picture.pixels.nbytes for one in new)
        if before + len(new) > limits.num_cells or num_bytes > limits.total_bytes:
            why = "more than one slide can hold; start over, or upload fewer cells"
            refused, new = [*refused, RejectedFile(f"{len(new):,} images", why)], []
        return replace(self, waiting=(*self.waiting, *new), refused=tuple(refused))

    def answered(self, reading: SlidePredictions) -> "Slide":
        """Add predictions; images without one stay pending and keep their corrections.

        Images that nobody has seen yet get new numbers, so that those of a field are consecutive.
        """
        known = (
            {} if reading.replaces_all else {case.number: case.prediction for case in self.cases}
        )
        known |= reading.predictions
        last = max((case.number for case in self.cases), default=0)
        seen = {case.number for case in self.cases} | {
            one.number
            for one in self.waiting
            if not reading.found or one.corrected is not None or one.picture.origin is not None
        }
        numbers = (number for number in count(1 + last) if number not in seen)
        cases, waiting = [], []
        for one in self.every:
            number = one.number if one.number in seen else next(numbers)
            if one.number not in known:
                waiting.append(PendingCell(number, one.picture, one.corrected))
                continue
            cells = reading.found.get(one.number, ())
            if not cells:
                picture = reading.cut_again.get(one.number, one.picture)
                cases.append(SlideCell(number, picture, known[one.number], one.corrected))
            # The first cell of a field takes its number, so that numbers have no holes.
            for place, (picture, prediction) in enumerate(cells):
                cases.append(SlideCell(next(numbers) if place else number, picture, prediction))
        return replace(
            self,
            refused=(*self.refused, *reading.refused),
            estimate=reading.estimate,
            scale_notes=reading.scale_notes,
            cases=tuple(sorted(cases, key=lambda one: one.number)),
            waiting=tuple(waiting),
        )

    def corrected(self, number: int, label: int | None) -> "Slide":
        """Set a person's class for one cell; None removes it."""
        return self.reviewed({number: label})

    def reviewed(self, labels: Mapping[int, int | None]) -> "Slide":
        """Set a person's classes by number of the cell; None removes one."""
        return replace(
            self,
            cases=tuple(
                replace(one, corrected=labels[one.number]) if one.number in labels else one
                for one in self.cases
            ),
            waiting=tuple(
                replace(one, corrected=labels[one.number]) if one.number in labels else one
                for one in self.waiting
            ),
        )
