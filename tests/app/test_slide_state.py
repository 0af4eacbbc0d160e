"""A growing slide: only new images are read, and nothing a user uploaded or entered is lost."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.limits import Limits
from hf_wbc.app.page_text import OUTSIDE
from hf_wbc.app.service import BATCH, PageModel, Service
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import RejectedFile, UploadedImage, Uploads
from hf_wbc.data.scale import ScaleEstimate
from hf_wbc.inference.cell_prediction import CellPrediction, by_lineage
from hf_wbc.taxonomy import NUM_CLASSES, class_id

BASOPHIL = class_id("basophil")
AT_ONCE, LATER = Limits(seconds=1e6), Limits(seconds=-1.0)
"""Enough time for everything, and for a single batch."""


class Model:
    """Predicts from each image's first pixel, and records the requests."""

    def __init__(self, measures: bool = False) -> None:
        self.pretrained = SimpleNamespace(rule=SimpleNamespace(needs_images=measures))
        self.asked: list[list[int]] = []

    def predict(
        self,
        images: Sequence[Any],
        scale: float | ScaleEstimate,
        is_found: Sequence[bool],
        nuclei: Sequence[Any],
    ) -> list[CellPrediction]:
        estimate = scale if isinstance(scale, ScaleEstimate) else None
        um_per_px = scale.um_per_px if isinstance(scale, ScaleEstimate) else scale
        values = [int(image[0, 0, 0]) for image in images]
        self.asked.append(values)
        p = np.full(NUM_CLASSES, 1 / NUM_CLASSES)
        some = np.zeros(4, np.float32)
        return [
            CellPrediction(
                p, value % 11, (), False, by_lineage(p), um_per_px, estimate, (0, 0, 9, 9), (),
                some, some,
            )
            for value in values
        ]  # fmt: skip


def pictures(*values: int, nucleus_px: int = 0) -> Uploads:
    """Build images with the values in their first pixels, and optionally a nucleus."""
    made = []
    for value in values:
        pixels = np.full((200, 200, 3), 235, np.uint8)
        y, x = np.mgrid[:200, :200] - 100
        pixels[x**2 + y**2 < (nucleus_px / 2) ** 2] = (90, 50, 140)
        pixels[0, 0] = value
        made.append(UploadedImage(f"{value}.png", pixels))
    return Uploads(tuple(made))


def service(model: Model, limits: Limits = AT_ONCE) -> Service:
    return Service(PageModel.loaded("model", cast(Any, model)), limits=limits)


def read(
    model: Model,
    slide: Slide,
    uploads: Uploads = Uploads(),  # noqa: B008 (frozen)
    um_per_px: float | None = 0.1,
    limits: Limits = AT_ONCE,
) -> Slide:
    slide = slide.added(uploads, limits)
    return slide.answered(service(model, limits).read(slide, um_per_px))


def labels(slide: Slide) -> dict[int, int]:
    return {case.number: case.prediction.label for case in slide.cases}


def test_only_new_images_are_read_at_same_scale() -> None:
    model = Model()
    slide = read(model, Slide(), pictures(1, 2)).corrected(2, BASOPHIL)
    slide = read(model, slide, pictures(3))
    assert model.asked == [[1, 2], [3]]
    assert labels(slide) == {1: 1, 2: 2, 3: 3}
    assert [case.corrected for case in slide.cases] == [None, BASOPHIL, None]


def test_new_scale_rereads_everything() -> None:
    model = Model()
    slide = read(model, read(model, Slide(), pictures(1, 2)).corrected(1, OUTSIDE), um_per_px=0.2)
    assert model.asked == [[1, 2], [1, 2]]
    assert slide.scale == 0.2
    assert [case.corrected for case in slide.cases] == [OUTSIDE, None]


def test_timed_out_cells_keep_corrections_and_are_read_next() -> None:
    model, many = Model(), range(2 * BATCH + 5)
    slide = read(model, Slide(), pictures(*many)).corrected(1, BASOPHIL)
    slide = slide.corrected(BATCH + 1, OUTSIDE).corrected(2 * BATCH + 1, BASOPHIL)
    slide = read(model, slide, um_per_px=0.2, limits=LATER)
    assert (len(slide.cases), len(slide.waiting)) == (BATCH, BATCH + 5)
    said = {one.number: one.corrected for one in slide.every if one.corrected is not None}
    assert said == {1: BASOPHIL, BATCH + 1: OUTSIDE, 2 * BATCH + 1: BASOPHIL}
    model.asked.clear()
    for left in (5, 0):
        slide = read(model, slide, um_per_px=0.2, limits=LATER)
        assert len(slide.waiting) == left
    assert model.asked == [list(many)[BATCH : 2 * BATCH], list(many)[2 * BATCH :]]
    assert said == {one.number: one.corrected for one in slide.cases if one.corrected is not None}
    assert [one.number for one in slide.cases] == list(range(1, len(many) + 1))


def test_images_added_after_timeout_are_read_after_waiting_ones() -> None:
    model = Model()
    slide = read(model, Slide(), pictures(*range(BATCH + 1)), limits=LATER)
    slide = read(model, slide, pictures(200), limits=LATER)
    assert model.asked[1] == [BATCH, 200]
    assert not slide.waiting


def test_duplicate_image_is_not_counted_twice() -> None:
    model = Model()
    slide = read(model, read(model, Slide(), pictures(1, 2)), pictures(2, 3, 3))
    assert model.asked == [[1, 2], [3]]
    assert [one.number for one in slide.cases] == [1, 2, 3]
    assert [one.why for one in slide.refused] == [
        "identical to image no. 2",
        "identical to image no. 3",
    ]


def test_failed_scale_leaves_slide_unchanged() -> None:
    def refuse(images: Any, *others: Any) -> list[CellPrediction]:
        raise ValueError("too few pixels")

    model = Model()
    slide = read(model, Slide(), pictures(1)).added(pictures(2), AT_ONCE)
    model.predict = refuse  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="too few"):
        service(model).read(slide, 0.9)
    assert labels(slide) == {1: 1} and [one.number for one in slide.waiting] == [2]


def test_model_needing_whole_laboratory_gets_all_cells_together() -> None:
    model = Model(measures=True)
    slide = read(model, Slide(), pictures(*range(BATCH + 9)), limits=LATER)
    slide = read(model, slide, pictures(100), limits=LATER)
    slide = read(model, slide, limits=LATER)
    assert model.asked == [list(range(BATCH + 9)), [*range(BATCH + 9), 100]]
    assert not slide.waiting


def test_scale_estimate_is_kept_until_more_cells_change_it() -> None:
    model = Model()
    slide = read(model, Slide(), pictures(1, 2, nucleus_px=90), um_per_px=None)
    assert slide.estimate is not None and slide.estimate.source == "nuclei"
    slide = read(model, slide, pictures(3, nucleus_px=91), um_per_px=None)
    assert model.asked == [[1, 2], [3]]
    slide = read(model, slide, pictures(4, 5, 6, 7, nucleus_px=60), um_per_px=None)
    assert model.asked[2] == [1, 2, 3, 4, 5, 6, 7]
    assert len({case.prediction.um_per_px for case in slide.cases}) == 1
    assert all(case.prediction.scale_guessed for case in slide.cases)
    slide = read(model, slide, um_per_px=slide.um_per_px)
    assert not any(case.prediction.scale_guessed for case in slide.cases)


def test_estimate_without_evidence_is_marked_default() -> None:
    estimate = read(Model(), Slide(), pictures(1, 2), um_per_px=None).estimate
    assert estimate is not None and estimate.source == "default"


def test_corrections_made_during_reading_are_kept() -> None:
    model = Model()
    slide = read(model, Slide(), pictures(1, 2)).added(pictures(3), AT_ONCE)
    reading = service(model).read(slide, 0.2)
    meanwhile = slide.corrected(1, BASOPHIL).corrected(3, OUTSIDE)
    done = meanwhile.answered(reading)
    assert [case.corrected for case in done.cases] == [BASOPHIL, None, OUTSIDE]
    assert Slide().answered(reading) == Slide()  # restarted


def test_images_over_cell_limit_leave_slide_unchanged() -> None:
    tight = Limits(num_cells=3)
    slide = Slide().added(pictures(1, 2), tight)
    more = slide.added(pictures(3, 4), tight)
    assert more.every == slide.every
    assert isinstance(more.refused[0], RejectedFile) and "2 images" in more.refused[0].name
