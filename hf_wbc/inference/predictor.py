"""A trained model's answers to images that a person has at hand: the page shows what is said here.

An image of any size and a known, or guessed, scale becomes the 25 um around its cell, as in
training. The answer has the calibrated probabilities of the eleven classes, the conformal set, the
reject flag, the lineages, and warnings in words.

Images as people give them: their pixels, and where in them the 25 um of the cell lie."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from torch import Tensor

from hf_wbc.data.crop import CropFrame, extract_crop, guess_scale, locate_crop
from hf_wbc.data.nucleus import find_nucleus
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.data.table import Table
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.features import crop_geometry
from hf_wbc.evaluation.slide import HeldOut
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.cell_prediction import (
    EMPTY,
    OUTSIDE,
    UNMEASURED,
    CellPrediction,
    Neighbour,
    by_lineage,
    image_warnings,
)
from hf_wbc.inference.gallery import ReferenceSet, read_reference_set
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.saliency import DeletionTest, deletion_test, saliency_map
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.taxonomy import NAMES

Pixels = NDArray[np.uint8]
Scale = float | None | Sequence[float | None]
UNKNOWN_UM_PER_PX = 0.1
"""Taken, and said to be a guess, where no nucleus tells the scale: that of a 100x objective with a
common camera, and of Acevedo_20."""


def to_rgb(image: Image.Image | Pixels) -> Pixels:
    """Pixels (H, W, 3) uint8; an alpha channel is dropped. ValueError for what is no 8-bit RGB."""
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"an image is of Pillow's mode {image.mode}; give 8-bit RGB")
        image = np.asarray(image)[..., :3]
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image has shape {image.shape}, {image.dtype}; give (H, W, 3), uint8")
    return np.ascontiguousarray(image)


def crop_frames(arrays: Sequence[Pixels], um_per_px: Scale) -> list[CropFrame]:
    """Where the 25 um of each image lie, at one scale for all, or one each.

    None is guessed: alone from all images together, in a list from each by itself. ValueError for a
    scale that cannot be.
    """
    nuclei = [find_nucleus(pixels) for pixels in arrays]
    if isinstance(um_per_px, Sequence):
        scales = list(um_per_px)
        guesses = [guess_scale([nucleus]) for nucleus in nuclei]
    else:
        scales = [um_per_px] * len(arrays)
        guesses = [guess_scale(nuclei)] * len(arrays)
    if len(scales) != len(arrays):
        raise ValueError(f"{len(scales)} scales for {len(arrays)} images; give one, or one each")
    return [
        locate_crop(pixels, nucleus, scale, guessed=False)
        if scale is not None
        else locate_crop(
            pixels, nucleus, guess or UNKNOWN_UM_PER_PX, guessed=True, assumed=guess is None
        )
        for pixels, nucleus, scale, guess in zip(arrays, nuclei, scales, guesses, strict=True)
    ]


ENOUGH = 32
"""Images from which a laboratory's stain and sharpness are measured, for a model that wants it."""


class Predictor:
    """A model, ready to answer; its methods may be called from several threads at once."""

    names = NAMES
    """Of the eleven classes, by id."""

    def __init__(
        self, loaded: PretrainedModel, chosen: RuntimeChoice, reference: ReferenceSet
    ) -> None:
        """`loaded.classifier` is in evaluation mode, on the device where it is to compute."""
        self.loaded = loaded
        self.chosen = chosen
        self.reference = reference
        self.geometry = crop_geometry(loaded)
        self.abstention = fit_run_abstention(loaded)
        self._lock = Lock()
        self._engine = replace(chosen.engine, features=self._one_at_a_time)

    @classmethod
    def load(
        cls,
        model: str,
        engine: str = "auto",
        device: str | None = None,
        precision: str = "fp32",
    ) -> Self:
        """A run's model folder, or `org/name[@revision]` of the Hub.

        `engine` is auto, torch, compile, openvino or onnx; `device` a torch device, by default the
        CPU. ValueError when there is no such model, it is not of the eleven classes, what lies
        beside it is damaged, or the engine is refused (see `choose_runtime`).
        """
        loaded = load_trained(model)
        loaded.classifier.to(_device(device)).eval()
        reference = read_reference_set(model, loaded)
        key = loaded.revision
        chosen = choose_runtime(loaded.classifier, loaded.preprocessing, engine, precision, key)
        return cls(loaded, chosen, reference)

    @property
    def card(self) -> dict[str, Any]:
        """Facts about the model; plain JSON values."""
        loaded, abstention, gallery = self.loaded, self.abstention, self.reference.gallery
        return {
            "revision": loaded.revision,
            "exposure": loaded.exposure,
            "exposed_to": list(loaded.exposed_to),
            "engine": self.chosen.facts(),
            "image_size_px": loaded.preprocessing.size,
            "um": self.geometry.um,
            "calibrated": abstention is not None,
            "abstention": None if abstention is None else abstention.to_dict(),
            "num_reference_cells": 0 if gallery is None else len(gallery.labels),
            "reference_sources": [] if gallery is None else sorted(set(gallery.sources)),
            "knows_confusion": self.held_out is not None,
            "reference": self.reference.facts,
        }

    @property
    def held_out(self) -> HeldOut | None:
        """What a differential count has to know of the model's confusion."""
        found = self.reference.held_out
        if found is None or self.abstention is None:
            return found
        return replace(found, rejected=self.abstention.rejection.rejects(found.logits))

    def predict(
        self, images: Sequence[Image.Image | Pixels], um_per_px: Scale = None
    ) -> list[CellPrediction]:
        """One answer an image, in their order.

        `um_per_px` is one scale for all, or one each. None lets it be guessed: alone it means that
        all images are of one microscope, which makes the guess better; in a list each is guessed on
        its own. ValueError for a scale that cannot be, or for what is no 8-bit RGB image.
        """
        if not images:
            return []
        arrays = [to_rgb(image) for image in images]
        frames = crop_frames(arrays, um_per_px)
        squares = np.stack(
            [extract_crop(a, f, self.geometry) for a, f in zip(arrays, frames, strict=True)]
        )
        how, is_measured = self.treatment(squares)
        features = self.features(squares, how)
        logits = self.logits(features)
        away = np.zeros(len(logits), bool)
        if self.abstention is not None:
            away = self.abstention.rejection.rejects(logits)
        gallery = self.reference.gallery
        looks = None if gallery is None else gallery.looks
        seen = [image_warnings(a, f, looks) for a, f in zip(arrays, frames, strict=True)]
        away |= [EMPTY in warnings for warnings in seen]  # no model was shown what that is
        said = [
            (*warnings, *([OUTSIDE] if is_away else []), *([] if is_measured else [UNMEASURED]))
            for warnings, is_away in zip(seen, away, strict=True)
        ]
        return self._answers(frames, logits, features, away, said)

    def features(self, squares: Pixels, how: ImagePreprocessing) -> NDArray[np.float32]:
        """Penultimate features (N, d) of squares (N, S, S, 3), by the chosen engine."""
        return run_runtime(self._engine, squares, how, self._device)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (N, 11) of features (N, d)."""
        return apply_head(self.loaded.classifier, features)

    def tested_saliency(
        self, image: Image.Image | Pixels, um_per_px: float | None, label: int
    ) -> tuple[NDArray[np.float32], DeletionTest]:
        """How much each pixel of the 25 um square speaks for a class, and what hiding it costs.

        The map is (S, S) in [0, 1]; its square is the answer's `box`, at the model's size.
        """
        inputs = self.inputs(image, um_per_px)
        with self._lock:
            heat = saliency_map(self.differentiable(), inputs, label)
            return heat, deletion_test(self.differentiable(), inputs, label, heat)

    def inputs(self, image: Image.Image | Pixels, um_per_px: float | None) -> Tensor:
        """The 25 um square of one image as the model takes it, (1, 3, S, S)."""
        pixels = to_rgb(image)
        (found,) = crop_frames([pixels], um_per_px)
        square = extract_crop(pixels, found, self.geometry)[None]
        return preprocess(torch.from_numpy(square).to(self._device), self.treatment(square)[0])

    def differentiable(self) -> Callable[[Tensor], Tensor]:
        """From images (B, 3, S, S) to logits (B, 11), by torch; one thread at a time."""
        return lambda images: self.loaded.classifier(images).logits

    def neighbours(self, answer: CellPrediction, k: int = 6) -> list[Neighbour]:
        """The k nearest training cells, nearest first; [] for a model without a reference."""
        gallery = self.reference.gallery
        if gallery is None:
            return []
        distances = 1 - gallery.features @ unit_rows(answer.features[None])[0]
        return [
            Neighbour(
                gallery.thumbnails[row],
                int(gallery.labels[row]),
                gallery.sources[row],
                gallery.image_ids[row],
                float(max(distances[row], 0.0)),
            )
            for row in np.argsort(distances, kind="stable")[: max(k, 0)].tolist()
        ]

    def _one_at_a_time(self, inputs: Tensor) -> Tensor:
        """A batch; between two of them another thread may have its turn."""
        with self._lock:
            return self.chosen.engine.features(inputs)

    @property
    def _device(self) -> torch.device:
        return self.loaded.classifier.head.weight.device

    def treatment(self, squares: Pixels) -> tuple[ImagePreprocessing, bool]:
        """How the model wants these squares, and whether it could be told.

        Too few of them say nothing of a laboratory: they are treated as a plain pipeline does.
        """
        rule, preprocessing = self.loaded.rule, self.loaded.preprocessing
        plain = ImagePreprocessing(preprocessing.mean, preprocessing.std, rule.blur_um, rule.flips)
        if not rule.needs_images:
            return plain, True
        if len(squares) < ENOUGH:
            return plain, False
        table = Table.unlabeled(squares)
        return rule.fit(table, preprocessing.mean, preprocessing.std), True

    def _answers(
        self,
        frames: Sequence[CropFrame],
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
        away: NDArray[np.bool_],
        said: Sequence[tuple[str, ...]],
    ) -> list[CellPrediction]:
        chances = softmax(logits.astype(np.float64), axis=1)
        inside = np.zeros(logits.shape, bool)
        if self.abstention is not None:
            inside = self.abstention.within_class.sets(logits)
        return [
            CellPrediction(
                probabilities=p,
                label=int(p.argmax()),
                conformal=tuple(int(c) for c in np.argsort(-p, kind="stable") if inside[row, c]),
                rejected=bool(away[row]),
                lineage=by_lineage(p),
                um_per_px=found.um_per_px,
                scale_guessed=found.guessed,
                box=found.box,
                warnings=said[row],
                features=features[row],
                logits=logits[row],
            )
            for row, (p, found) in enumerate(zip(chances, frames, strict=True))
        ]


def _device(name: str | None) -> torch.device:
    try:
        return torch.device(name or "cpu")
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; give cpu or cuda") from error
