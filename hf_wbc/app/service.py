"""From uploaded files to predictions: what the page and its endpoints share.

Models load in the background while the page is already open; callers block until the model they
need is loaded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hf_wbc.app.examples import EXAMPLES, draw_example
from hf_wbc.app.field_cells import cells_of_field, cut_out
from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.run_scores import load_run_record
from hf_wbc.app.scale_input import parse_scale
from hf_wbc.app.slide_scale import MeasuredImages
from hf_wbc.app.slide_state import Slide, SlidePredictions
from hf_wbc.app.uploads import (
    RejectedFile,
    UploadedFile,
    UploadedImage,
    Uploads,
    read_uploads,
    remove_all,
)
from hf_wbc.data.scale import ScaleEstimate, estimate_scale
from hf_wbc.evaluation.smear_limits import ReferenceRange, SmearLimits, load_limits, load_ranges

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction
    from hf_wbc.inference.predictor import Predictor

    FieldCells = tuple[tuple[UploadedImage, CellPrediction], ...]
    Loaded = tuple[Predictor, Mapping[str, Any] | None]


class PageModel:
    """A model and the record of its run; accessing either blocks until both are loaded."""

    def __init__(self, name: str) -> None:
        """Create an unloaded model; `name` is a folder or `org/name[@revision]`."""
        self.name = name
        self.settled: Future[Loaded] = Future()
        """Done when the model is loaded or has failed to load."""
        # One waiting caller must not cancel the loading for others.
        self.settled.set_running_or_notify_cancel()

    @classmethod
    def loaded(
        cls, name: str, predictor: "Predictor", record: Mapping[str, Any] | None = None
    ) -> Self:
        """Wrap a model that is already loaded."""
        found = cls(name)
        found.settled.set_result((predictor, record))
        return found

    @property
    def predictor(self) -> "Predictor":
        """The model; raises the error if loading failed."""
        return self.settled.result()[0]

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The record of its training run, or None; raises the error if loading failed."""
        return self.settled.result()[1]

    def load(self) -> Exception | None:
        """Load the model and run one prediction to warm it up.

        Returns:
            The error if loading failed, such as a ValueError for a model with other classes.
        """
        try:
            from hf_wbc.app.answering import Predictor

            found = Predictor.load(self.name), load_run_record(self.name)
            found[0].predict([draw_example(EXAMPLES[0]).pixels], EXAMPLES[0].um_per_px)
        except Exception as error:  # of any kind, so that no caller blocks forever
            self.settled.set_exception(error)
            return error
        self.settled.set_result(found)
        return None


BATCH = 32
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Service:
    """A model and what the page can ask it; callers block until it is loaded."""

    own: PageModel
    laboratories: Mapping[str, float] = field(default_factory=dict)
    """Scale in um per pixel by laboratory."""
    limits: Limits = LIMITS
    others: tuple[PageModel, ...] = ()
    """Other models to compare with."""
    is_toy: bool = False
    """Whether the model was trained on drawings only."""
    smear_limits: SmearLimits = field(default_factory=load_limits)
    """Limits of the flags of a count."""
    reference_ranges: Mapping[str, ReferenceRange] = field(default_factory=load_ranges)
    """Reference ranges by name of the class."""
    labels: Path | None = None
    """Labels file of the tab Label; None keeps labels in memory."""

    @property
    def predictor(self) -> "Predictor":
        """The model."""
        return self.own.predictor

    def wait(self) -> None:
        """Block until the model is loaded and its libraries are imported."""
        self.own.settled.result()

    @property
    def alpha(self) -> float | None:
        """Fraction of prediction sets that may miss the class; None without sets."""
        abstention = self.predictor.abstention
        return None if abstention is None else abstention.within_class.alpha

    @property
    def always_in_set(self) -> frozenset[int]:
        """Classes in every prediction set, because too few of their cells were held out."""
        abstention = self.predictor.abstention
        limits = () if abstention is None else abstention.within_class.thresholds
        return frozenset(label for label, limit in enumerate(limits) if limit is None)

    @property
    def untaught(self) -> tuple[int, ...]:
        """Classes without training cells, which the model cannot predict."""
        abstention = self.predictor.abstention
        numbers = () if abstention is None else abstention.num_images
        return tuple(label for label, num in enumerate(numbers) if not num)

    @property
    def blasts_from(self) -> float | None:
        """Blast probability from which the model's review flags a cell; None if unknown."""
        abstention = self.predictor.abstention
        review = None if abstention is None else abstention.reviews.get("myeloblast")
        return None if review is None else review.threshold

    @property
    def title(self) -> str:
        """The model's name."""
        return model_title(self.own.name)

    def scale(self, value: str | float | None) -> float | None:
        """Parse um per pixel; None means estimate it. ValueError for an invalid scale."""
        return parse_scale(value, self.laboratories)

    def take(self, files: Sequence[UploadedFile], measures: bool = True) -> Uploads:
        """Read the images of uploaded files once the model is loaded; always deletes the files.

        With `measures`, the processes that read the files also measure the scale of each image: it
        takes longer than all the rest, and several visitors wait less for each other there.
        """
        try:
            self.wait()
            return read_uploads(files, self.limits, measures=measures)
        finally:
            remove_all(files)

    def predict_cell(self, picture: UploadedImage, um_per_px: float | None) -> "CellPrediction":
        """Predict one image; a scale of None is estimated. ValueError for an invalid scale."""
        if um_per_px is not None:
            return self.predict_pictures([picture], um_per_px)[0]
        scale = estimate_scale([picture.pixels], [picture.nucleus], [picture.red_cells])
        return self.predict_pictures([picture], scale)[0]

    def read(
        self,
        slide: Slide,
        um_per_px: float | None,
        report: Report = lambda done, total: None,
    ) -> SlidePredictions:
        """Predict the pending cells of a slide, or all of them if the scale changed.

        Args:
            slide: The slide.
            um_per_px: Scale of all images; None estimates it from all of them together.
            report: Called with the number of cells done and the total.

        Returns:
            The predictions. After the time limit the remaining cells stay pending; at least one
            batch is always predicted.

        Raises:
            ValueError: For an invalid scale.
        """
        every = slide.every
        measured = MeasuredImages(every)
        scale = um_per_px if um_per_px is not None else measured.estimate(slide.scale)
        # A model that measures a laboratory's stain needs all of its cells at once.
        measures = self.predictor.pretrained.rule.needs_images
        is_other = slide.scale is not None and _differ(slide.scale, scale)
        replaces_all = is_other or (measures and bool(slide.cases and slide.waiting))
        todo = every if replaces_all else slide.waiting
        um = scale.um_per_px if isinstance(scale, ScaleEstimate) else scale
        # A cell of a field is cut out again, as its crop has another size at another scale.
        again = {
            one.number: cut_out(one.picture.origin, um)
            for one in todo
            if one.picture.origin is not None
        }
        pictures = [again.get(one.number, one.picture) for one in todo]
        end = time.monotonic() + self.limits.seconds
        found: list[CellPrediction] = []
        at_once = len(todo) if measures else BATCH
        for start in range(0, len(todo), max(at_once, 1)):
            if start and time.monotonic() > end:
                break
            report(start, len(todo))
            found += self.predict_pictures(pictures[start : start + at_once], scale)
        report(len(found), len(todo))
        predictions = {one.number: prediction for one, prediction in zip(todo, found, strict=False)}
        estimate = scale if isinstance(scale, ScaleEstimate) else None
        cells, refused = self._cells_of_fields(slide, predictions, scale, report)
        return SlidePredictions(
            predictions, replaces_all, estimate, cells, again, measured.notes(um), refused
        )

    def predict_pictures(
        self, pictures: Sequence[UploadedImage], scale: float | ScaleEstimate
    ) -> "list[CellPrediction]":
        """Predict images and cells that were found in fields, at one scale."""
        is_found = [one.origin is not None for one in pictures]
        nuclei = [one.nucleus for one in pictures]
        return self.predictor.predict([one.pixels for one in pictures], scale, is_found, nuclei)

    def predict_field(
        self,
        picture: UploadedImage,
        scale: float | ScaleEstimate,
        at_most: int,
        report: Report = lambda done, total: None,
    ) -> "FieldCells":
        """Find and predict the cells of a field of view, at most `at_most` of them."""
        um = scale.um_per_px if isinstance(scale, ScaleEstimate) else scale
        cells = cells_of_field(picture, um)[:at_most]
        found: list[CellPrediction] = []
        for start in range(0, len(cells), BATCH):
            report(start, len(cells))
            found += self.predict_pictures(cells[start : start + BATCH], scale)
        return tuple(zip(cells, found, strict=True))

    def _cells_of_fields(
        self,
        slide: Slide,
        predictions: "Mapping[int, CellPrediction]",
        scale: float | ScaleEstimate,
        report: Report,
    ) -> "tuple[dict[int, FieldCells], tuple[RejectedFile, ...]]":
        """Find and predict the cells of the images that do not show one cell.

        Returns:
            The cells by number of the image, and the fields with more cells than a sample can hold.
        """
        from hf_wbc.inference.cell_prediction import is_field

        found = {}
        refused = []
        room = self.limits.num_cells - len(slide.every)
        fields = [
            one
            for one in slide.every
            if (prediction := predictions.get(one.number)) is not None
            and one.picture.origin is None
            and is_field(prediction.warnings)
        ]
        for number, one in enumerate(fields):
            report(number, len(fields))  # while the cells are searched
            cells = self.predict_field(one.picture, scale, room + 2, report)
            if len(cells) > room + 1:
                why = f"a sample holds {self.limits.num_cells:,} cells; further ones are left out"
                refused.append(RejectedFile(one.picture.name, why))
            found[one.number] = cells[: room + 1]
            room -= max(len(found[one.number]) - 1, 0)
        return found, tuple(refused)


def model_title(model: str) -> str:
    """The displayed name of a model; for a run, the name of its folder.

    >>> model_title("runs/6dab9185a933/model"), model_title("org/name@v1")
    ('6dab9185a933', 'name@v1')
    """
    path = Path(model)
    return path.resolve().parent.name if path.name == "model" else path.name


def _differ(one: float | ScaleEstimate, other: float | ScaleEstimate) -> bool:
    """Whether two scales differ, or only one of them is an estimate."""
    if isinstance(one, ScaleEstimate) and isinstance(other, ScaleEstimate):
        return one.um_per_px != other.um_per_px
    return one != other
