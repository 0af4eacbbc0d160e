"""The scale of a slide: from its red cells, else its nuclei, and whether all images share it."""

from collections.abc import Sequence
from dataclasses import replace

from hf_wbc.app.slide_state import PendingCell, SlideCell
from hf_wbc.app.uploads import UploadedImage
from hf_wbc.data.scale import ScaleEstimate, estimate_scale

GUESSED_FROM = 96
"""Most images in which red cells are measured, taken at even spacing."""
SAME_GUESS = 0.05
"""Relative difference below which a new estimate keeps the slide's earlier scale."""
WHOLE_FIELD_PX = 800
"""Longest side in pixels above which an image shows a field, whose nuclei the finder measures."""


class MeasuredImages:
    """Some uploaded images of a slide, whose red cells are measured once."""

    def __init__(self, images: Sequence[SlideCell | PendingCell]) -> None:
        """Choose the images; cells that were found in a field count as that field."""
        whole = {one.picture.whole.digest: one.picture.whole for one in images}
        every = max(-(-len(whole) // GUESSED_FROM), 1)
        self.images: tuple[UploadedImage, ...] = tuple([*whole.values()][::every])
        self.diameters = [one.red_cells for one in self.images]

    def estimate(self, before: float | ScaleEstimate | None) -> ScaleEstimate:
        """Estimate the scale; an earlier estimate that is about the same is kept."""
        from hf_wbc.finder.field_scale import scale_from_field_nuclei

        found = estimate_scale(
            [one.pixels for one in self.images],
            [one.nucleus for one in self.images],
            self.diameters,
        )
        fields = [one.pixels for one in self.images if max(one.pixels.shape) > WHOLE_FIELD_PX]
        if found.source != "red cells" and fields:
            um_per_px = scale_from_field_nuclei(fields)
            if um_per_px is not None:
                found = ScaleEstimate(um_per_px, "nuclei", 0, um_per_px)
        if not isinstance(before, ScaleEstimate):
            return found
        is_same = abs(found.um_per_px - before.um_per_px) <= SAME_GUESS * before.um_per_px
        return replace(found, um_per_px=before.um_per_px) if is_same else found

    def notes(self, um_per_px: float) -> tuple[str, ...]:
        """Name the images whose own red cells suggest another scale than `um_per_px`."""
        from hf_wbc.finder.field_scale import Measured, scale_notes

        measured = [
            Measured(one.name, diameters=tuple(diameters))
            for one, diameters in zip(self.images, self.diameters, strict=True)
        ]
        return tuple(scale_notes(measured, [um_per_px] * len(measured)))
