"""The samples of one visitor: several slides, one of them shown, and images that wait.

A sample has a number only. Its name stays in the browser and goes into the files that a person
downloads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import Uploads

FIRST = 1


@dataclass(frozen=True)
class Samples:
    """All samples of a visitor; there is always a current one."""

    slides: Mapping[int, Slide] = field(default_factory=lambda: {FIRST: Slide()})
    """Slide by number of the sample."""
    current: int = FIRST
    last: int = FIRST
    """The highest number so far; numbers are not used again."""
    dropped: Uploads | None = None
    """Images that a person has dropped on a sample with cells: add them, or begin a new sample?"""

    @property
    def slide(self) -> Slide:
        """The slide of the current sample."""
        return self.slides[self.current]

    @property
    def num_bytes(self) -> int:
        """Memory that all images use."""
        waiting = () if self.dropped is None else self.dropped.pictures
        return sum(slide.num_bytes for slide in self.slides.values()) + sum(
            picture.pixels.nbytes for picture in waiting
        )

    def with_slide(self, slide: Slide, sample: int | None = None) -> "Samples":
        """Replace the slide of a sample, by default of the current one."""
        number = self.current if sample is None else sample
        return replace(self, slides={**self.slides, number: slide})

    def with_dropped(self, uploads: Uploads | None) -> "Samples":
        """Keep images until a person has said what to do with them; None forgets them."""
        return replace(self, dropped=uploads)

    def opened(self, sample: int) -> "Samples":
        """Make another sample the current one; an unknown one changes nothing."""
        return replace(self, current=sample) if sample in self.slides else self

    def begun(self) -> "Samples":
        """Begin a new sample, unless the current one is empty."""
        if not self.slide.every and not self.slide.refused:
            return self
        number = self.last + 1
        return replace(self, slides={**self.slides, number: Slide()}, current=number, last=number)

    def discarded(self) -> "Samples":
        """Delete the current sample; the one before it is shown, or a new one."""
        left = {number: slide for number, slide in self.slides.items() if number != self.current}
        if left:
            return replace(self, slides=left, current=max(left))
        return Samples({self.last + 1: Slide()}, self.last + 1, self.last + 1)
