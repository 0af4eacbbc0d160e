"""The cells of a laboratory that a visitor labels: what is shown next, and what the labels brought.

Everything stays in memory, except the labels file that the person who started the page has named:
it is written after every answer.
"""

import base64
import io
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_wbc.app.uploads import UploadedImage
from hf_wbc.data.labels_file import OTHER, SKIP, Answer, LabelsFile, labels_csv, note_strategy
from hf_wbc.taxonomy import NAMES, UNLABELED

if TYPE_CHECKING:
    from hf_wbc.inference.predictor import Predictor
    from hf_wbc.labeling.learner import Learner
    from hf_wbc.labeling.pool import Pool

__all__ = [
    "FEWEST_CELLS",
    "Laboratory",
    "label_id",
    "label_of_id",
    "open_laboratory",
    "unique_names",
]

BATCH = 10
FEWEST_CELLS = 10
"""Cells below which there is nothing to choose from."""
MERGED = ("neutrophil_banded=neutrophil_segmented",)
_OTHER_ID, _SKIP_ID = 900, 901
_NUMBERS = count(1_000_000)
"""Numbers of laboratories in messages, apart from those of samples."""


def label_id(label: str) -> int:
    """Return the number of a label in the gallery."""
    return {OTHER: _OTHER_ID, SKIP: _SKIP_ID}.get(label) or NAMES.index(label)


def label_of_id(number: int) -> str:
    """Return the label that a number in the gallery stands for."""
    return {_OTHER_ID: OTHER, _SKIP_ID: SKIP}.get(number) or NAMES[number]


@dataclass(eq=False)
class Laboratory:
    """The cells of one visitor, their labels, and which of them are shown."""

    learner: "Learner"
    squares: Mapping[str, NDArray[np.uint8]]
    """What the model sees of each cell (S, S, 3), by name."""
    file: LabelsFile | None = None
    number: int = field(default_factory=lambda: next(_NUMBERS))
    """Names the laboratory in messages."""
    reader: str = ""
    is_second: bool = False
    """Show the cells that other readers have labeled, to measure agreement."""
    shows_suggestions: bool = False
    batch: list[str] = field(default_factory=list)
    """Names of the cells to label now, in the order of the gallery."""
    lock: RLock = field(default_factory=RLock, repr=False)
    _since: float = field(default_factory=time.monotonic, repr=False)

    @property
    def num_bytes(self) -> int:
        """Memory of squares and features."""
        pixels = sum(square.nbytes for square in self.squares.values())
        return pixels + self.learner.pool.features.nbytes

    @property
    def own(self) -> dict[str, str]:
        """What the current reader said, by name of the cell."""
        answers = self.learner.answers
        return {a.image_id: a.label for a in answers if a.reader == self.reader}

    @property
    def shown(self) -> list[str]:
        """Names of the cells in the gallery: the current batch, then what the reader has named."""
        return list(dict.fromkeys([*self.batch, *self.own]))

    @property
    def is_batch_done(self) -> bool:
        """Whether every cell of the batch has an answer of the current reader."""
        return not set(self.batch) - set(self.own)

    def next_batch(self) -> None:
        """Choose the next cells; those of the batch that have no answer stay."""
        own = self.own
        left = [each for each in self.batch if each not in own]
        if self.is_second:
            others = [a.image_id for a in self.learner.answers if a.reader != self.reader]
            new = [each for each in dict.fromkeys(others) if each not in own]
        else:
            num = min(BATCH, self.learner.num_left)
            new = self.learner.next(num) if num > 0 else []
        self.batch = list(dict.fromkeys([*left, *new]))[:BATCH]
        self._since = time.monotonic()

    def read_as(self, reader: str, is_second: bool) -> None:
        """Go on as another reader, or with the cells of the others."""
        reader = " ".join(reader.split())
        if (reader, is_second) == (self.reader, self.is_second):
            return
        self.reader, self.is_second = reader, is_second
        if is_second or not set(self.batch) - self.learner.answered:
            self.batch = []
            self.next_batch()

    def save(self, labels: Mapping[int, int | None]) -> None:
        """Store answers by number of the cell; None takes one back.

        Raises:
            ValueError: If the labels file cannot be written, or a number is of no cell.
        """
        ids = self.learner.pool.image_ids
        if wrong := [number for number in labels if not 1 <= number <= len(ids)]:
            raise ValueError(f"cell {wrong[0]} is of another laboratory; reload the page")
        now = time.monotonic()
        seconds = round((now - self._since) / max(1, len(labels)), 1)
        self._since = now
        own = self.own
        for number, given in labels.items():
            image_id = ids[number - 1]
            label = None if given is None else label_of_id(given)
            if own.get(image_id) == label:  # a message that was sent twice
                continue
            answer = None if label is None else Answer(image_id, label, self.reader, seconds)
            if self.file is not None:
                self.file.put(image_id, self.reader, answer)
            if image_id in own:
                self.learner.forget(_answer_of(self.learner, image_id, self.reader))
            if answer is not None:
                self.learner.tell_answers([answer])

    def csv(self) -> str:
        """Return all labels as the text of a labels file."""
        return labels_csv(self.learner.answers).decode()

    def model_zip(self) -> str:
        """Return the adapted model as a zip file in base64.

        Raises:
            ValueError: If the labels did not change the model.
        """
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as place:
            folder = self.learner.save(Path(place) / "model")
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.rglob("*")):
                    archive.write(path, path.relative_to(folder.parent))
        return base64.b64encode(packed.getvalue()).decode()


def _answer_of(learner: "Learner", image_id: str, reader: str) -> Answer:
    """Return what a reader said about a cell."""
    return next(a for a in learner.answers if (a.image_id, a.reader) == (image_id, reader))


def open_laboratory(
    predictor: "Predictor",
    pictures: Sequence[UploadedImage],
    um_per_px: float | None,
    *,
    merges_bands: bool,
    path: Path | None,
) -> Laboratory:
    """Embed the cells of a laboratory, and continue from the labels in its file.

    Args:
        predictor: The model.
        pictures: One cell each; the same cell twice counts once.
        um_per_px: Scale; None if each image is cropped around one cell.
        merges_bands: Score banded and segmented neutrophils as one class.
        path: The labels file, or None to keep labels in memory only.

    Raises:
        ValueError: If there are fewer than 10 cells, an image is smaller than 25 um, or the labels
            file is damaged, in use or of other cells.
    """
    from hf_wbc.data.crop import crop_and_resize, extract_crop
    from hf_wbc.inference.predictor import crop_frames
    from hf_wbc.labeling.adapt import prototypes_of
    from hf_wbc.labeling.learner import Learner

    once = {picture.digest: picture for picture in pictures}
    if len(once) < FEWEST_CELLS:
        raise ValueError(
            f"{len(once)} cells are too few to choose from; drop at least {FEWEST_CELLS}, better "
            "some hundred"
        )
    cells = unique_names(list(once.values()))
    geometry = predictor.geometry
    arrays = [picture.pixels for picture in cells.values()]
    if um_per_px is None:
        squares = [crop_and_resize(pixels, None, geometry) for pixels in arrays]
    else:
        frames = crop_frames(arrays, um_per_px)
        squares = [extract_crop(a, f, geometry) for a, f in zip(arrays, frames, strict=True)]
    pool = _embed(predictor, tuple(cells), np.stack(squares))
    learner = Learner.of_model(
        predictor.pretrained, pool, prototypes=prototypes_of(predictor.reference_set),
        merge=MERGED if merges_bands else (),
    )  # fmt: skip
    file = None
    if path is not None:
        file = LabelsFile(path)
        learner.tell_answers(file.answers)
        note_strategy(path, learner.strategy)
    found = Laboratory(learner, dict(zip(cells, squares, strict=True)), file)
    found.next_batch()
    return found


def _embed(predictor: "Predictor", names: tuple[str, ...], squares: NDArray[np.uint8]) -> "Pool":
    from hf_wbc.labeling.pool import Pool, appearance_of

    features = predictor.features(squares, predictor.preprocessing_for(squares)[0])
    return Pool(
        name="your laboratory",
        image_ids=names,
        features=features,
        logits=predictor.logits(features),
        labels=np.full(len(names), UNLABELED),
        appearance=appearance_of(squares),
        facts={"model": predictor.pretrained.revision},
    )


def unique_names(pictures: Sequence[UploadedImage]) -> dict[str, UploadedImage]:
    """Return images by name; names that stand for several images get a part of the digest."""
    times = Counter(picture.name for picture in pictures)
    found = {}
    for picture in sorted(pictures, key=lambda each: (each.name, each.digest)):
        name = Path(picture.name)
        if times[picture.name] > 1:
            name = Path(f"{name.stem}-{picture.digest[:8]}{name.suffix}")
        found[str(name)] = picture
    return found
