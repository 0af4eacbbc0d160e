"""A trained model's answers to images that a person has at hand: the page shows what is said here.

An image of any size and a known, or guessed, scale becomes the 25 um around its cell, as in
training. The answer has the calibrated probabilities of the eleven classes, the conformal set, the
reject flag, the lineages, and warnings in words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from hf_wbc.data.framing import Box, Frame, frame, framed, guess_scale, locate
from hf_wbc.data.treatment import Treatment, treat
from hf_wbc.engine.calibrate import abstention_of
from hf_wbc.engine.inputs import geometry_of
from hf_wbc.models import Loaded, load_trained
from hf_wbc.taxonomy import CLASSES, NAMES

Pixels = NDArray[np.uint8]
Scale = float | None | Sequence[float | None]
UNKNOWN_UM_PER_PX = 0.1
"""Taken, and said to be guessed, where there is not even a nucleus to guess by."""


@dataclass(frozen=True)
class CellAnswer:
    """What a model says of one image."""

    probabilities: NDArray[np.float64]
    """Of the eleven classes (11,), calibrated for images like the sources'."""
    label: int
    """The likeliest class."""
    conformal: tuple[int, ...]
    """Classes that may be it, likeliest first; may be empty. () too where the model has no sets."""
    rejected: bool
    """It is like none of the cells that the model was taught."""
    lineage: Mapping[str, float]
    """Probability of each lineage."""
    um_per_px: float
    scale_guessed: bool
    box: Box
    """Left, top, right, bottom of the 25 um square, in pixels of the image given; it may go beyond
    the edges of an image that is smaller."""
    warnings: tuple[str, ...]
    """Sentences for a hematologist."""
    features: NDArray[np.float32]
    """Penultimate features (d,)."""
    logits: NDArray[np.float32]
    """(11,), of which the probabilities are the softmax."""


@dataclass(frozen=True)
class Neighbour:
    """A training cell that the model takes for alike."""

    thumbnail: bytes | None
    """An image file, PNG or JPEG; None where the source's images may not be shown."""
    label: int
    source: str
    image_id: str
    distance: float
    """1 - cosine of the features: 0 is the same, 1 has nothing in common."""


class Predictor:
    """A model, ready to answer; its methods may be called from several threads at once."""

    names = NAMES
    """Of the eleven classes, by id."""

    def __init__(self, loaded: Loaded, device: str | None = None) -> None:
        self.loaded = loaded
        self.device = torch.device(device or "cpu")
        self.geometry = geometry_of(loaded)
        self.abstention = abstention_of(loaded)
        self.engine_name = "torch"
        self._classifier = loaded.classifier.to(self.device).eval()
        self._lock = Lock()

    @classmethod
    def load(cls, model: str, engine: str = "auto", device: str | None = None) -> Self:
        """A run's model folder, or `org/name[@revision]` of the Hub.

        ValueError when there is no such model, or it is not of the eleven classes.
        """
        return cls(load_trained(model), device)

    @property
    def card(self) -> dict[str, Any]:
        """Facts about the model; plain JSON values."""
        loaded, abstention = self.loaded, self.abstention
        return {
            "revision": loaded.revision,
            "exposure": loaded.exposure,
            "exposed_to": list(loaded.exposed_to),
            "engine": self.engine_name,
            "image_size_px": loaded.preprocessing.size,
            "calibrated": abstention is not None,
            "abstention": None if abstention is None else abstention.to_dict(),
        }

    def predict(
        self, images: Sequence[Image.Image | Pixels], um_per_px: Scale = None
    ) -> list[CellAnswer]:
        """One answer an image, in their order.

        `um_per_px` is one scale for all, or one each. None lets it be guessed: alone it means that
        all images are of one microscope, which makes the guess better; in a list each is guessed on
        its own. ValueError for a scale that cannot be, or for what is no 8-bit RGB image.
        """
        if not images:
            return []
        arrays = [_rgb(image) for image in images]
        frames = _frames(arrays, um_per_px)
        squares = np.stack(
            [framed(a, f, self.geometry) for a, f in zip(arrays, frames, strict=True)]
        )
        logits, features = self._run(squares)
        return self._answers(arrays, frames, logits, features)

    def _run(self, squares: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        preprocessing = self.loaded.preprocessing
        how = Treatment(preprocessing.mean, preprocessing.std)
        with self._lock, torch.inference_mode():
            out = self._classifier(treat(torch.from_numpy(squares).to(self.device), how))
        return out.logits.cpu().numpy(), out.features.cpu().numpy()

    def _answers(
        self,
        arrays: Sequence[Pixels],
        frames: Sequence[Frame],
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
    ) -> list[CellAnswer]:
        chances = softmax(logits.astype(np.float64), axis=1)
        inside, away = np.zeros(logits.shape, bool), np.zeros(len(logits), bool)
        if self.abstention is not None:
            inside = self.abstention.sets["class"].sets(logits)
            away = self.abstention.rejection.rejects(logits)
        return [
            CellAnswer(
                probabilities=p,
                label=int(p.argmax()),
                conformal=tuple(int(c) for c in np.argsort(-p, kind="stable") if inside[row, c]),
                rejected=bool(away[row]),
                lineage=by_lineage(p),
                um_per_px=found.um_per_px,
                scale_guessed=found.guessed,
                box=found.box,
                warnings=_warnings(pixels, found, bool(away[row])),
                features=features[row],
                logits=logits[row],
            )
            for row, (p, found, pixels) in enumerate(zip(chances, frames, arrays, strict=True))
        ]

    def saliency(
        self, image: Image.Image | Pixels, um_per_px: float | None, label: int
    ) -> NDArray[np.float32]:
        """How much each pixel of the 25 um square speaks for a class, (size, size) in [0, 1]."""
        (pixels,) = arrays = [_rgb(image)]
        (found,) = _frames(arrays, um_per_px)
        seen = torch.from_numpy(framed(pixels, found, self.geometry)[None]).to(self.device)
        preprocessing = self.loaded.preprocessing
        how = Treatment(preprocessing.mean, preprocessing.std)
        with self._lock:
            inputs = treat(seen, how).requires_grad_()
            self._classifier(inputs).logits[0, label].backward()
            assert inputs.grad is not None
            heat = inputs.grad[0].abs().sum(0)
            self._classifier.zero_grad(set_to_none=True)
        peak: NDArray[np.float32] = (heat / heat.max().clamp_min(1e-12)).cpu().numpy()
        return peak

    def neighbours(self, answer: CellAnswer, k: int = 6) -> list[Neighbour]:
        """The k nearest training cells, nearest first; [] for a model without a reference set."""
        return []


def by_lineage(probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Probabilities (11,) summed over each lineage, likeliest first."""
    sums: dict[str, float] = {}
    for cell, p in zip(CLASSES, probabilities.tolist(), strict=True):
        sums[cell.lineage] = sums.get(cell.lineage, 0.0) + p
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _rgb(image: Image.Image | Pixels) -> Pixels:
    """Pixels (H, W, 3) uint8; an alpha channel is dropped."""
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"an image is of Pillow's mode {image.mode}; give 8-bit RGB")
        image = np.asarray(image)[..., :3]
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image has shape {image.shape}, {image.dtype}; give (H, W, 3), uint8")
    return np.ascontiguousarray(image)


def _frames(arrays: Sequence[Pixels], um_per_px: Scale) -> list[Frame]:
    nuclei = [locate(pixels) for pixels in arrays]
    if um_per_px is None:
        guesses = [guess_scale(nuclei) or UNKNOWN_UM_PER_PX] * len(arrays)
        return [frame(a, n, g, True) for a, n, g in zip(arrays, nuclei, guesses, strict=True)]
    scales = list(um_per_px) if isinstance(um_per_px, Sequence) else [um_per_px] * len(arrays)
    if len(scales) != len(arrays):
        raise ValueError(f"{len(scales)} scales for {len(arrays)} images; give one, or one each")
    return [
        frame(a, n, s if s is not None else guess_scale([n]) or UNKNOWN_UM_PER_PX, s is None)
        for a, n, s in zip(arrays, nuclei, scales, strict=True)
    ]


def _warnings(pixels: Pixels, found: Frame, rejected: bool) -> tuple[str, ...]:
    said = []
    if found.nucleus is None:
        said.append("No nucleus was found in the image: is there a white cell?")
    if found.guessed:
        said.append(
            f"The scale was guessed from the cell's size ({found.um_per_px:.3g} um per pixel): "
            "correct it if you know the microscope's."
        )
    if not found.inside(*pixels.shape[:2]):
        said.append("The image shows less than 25 um; what is missing was filled in.")
    if rejected:
        said.append("It is unlike the cells that the model was taught; do not rely on its class.")
    return tuple(said)
