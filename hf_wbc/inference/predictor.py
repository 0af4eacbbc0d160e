"""Classify single cells with a trained model, as the app and notebooks do.

`Predictor` takes images of any size at a known or guessed scale, cuts out the 25 um around each
cell as in training, and returns calibrated probabilities, the conformal set, the reject flag and
warnings for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.special import softmax
from torch import Tensor

from hf_wbc.data.crop import CropFrame, extract_crop, locate_crop
from hf_wbc.data.nucleus import Nucleus, find_nucleus
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.data.scale import ScaleEstimate, estimate_scale
from hf_wbc.data.table import Table
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.features import crop_geometry
from hf_wbc.evaluation.slide import HeldOut
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.attribute_reasons import Reason, cell_reasons, read_attribute_head
from hf_wbc.inference.cell_prediction import (
    EMPTY,
    FOREIGN,
    UNMEASURED,
    CellPrediction,
    Neighbor,
    by_lineage,
    image_warnings,
    is_field,
    outside_warning,
)
from hf_wbc.inference.gallery import ReferenceSet, read_reference_set
from hf_wbc.inference.outliers import recognize
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.saliency import DeletionTest, deletion_test, saliency_map
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.models.attribute_head import AttributeHead
from hf_wbc.taxonomy import NAMES

__all__ = ["ENOUGH", "Predictor", "crop_frames", "to_rgb"]

Pixels = NDArray[np.uint8]
Scale = float | ScaleEstimate | None | Sequence[float | None]
ENOUGH = 32
"""Images needed to measure a laboratory's stain and sharpness, for models that normalize them."""


class Predictor:
    """Classify images of single cells with one trained model.

    Methods may be called from several threads at once.

    Attributes:
        pretrained: The model, its preprocessing and its calibration.
        runtime_choice: The runtime that computes the features, and why it was chosen.
        reference_set: Training and validation cells for neighbors, warnings and count correction.
        attribute_head: Reads attributes such as granules from the features; None without one.
        geometry: Size and interpolation of the 25 um crop.
        abstention: Conformal sets and reject option; None for a model saved without them.

    Example:
        predictor = Predictor.load("runs/RUN/model")
        (cell,) = predictor.predict([Image.open("cell.png")], 0.1)
        predictor.class_names[cell.label]
    """

    class_names = NAMES
    """Names of the eleven classes, by id."""

    def __init__(
        self,
        pretrained: PretrainedModel,
        runtime_choice: RuntimeChoice,
        reference_set: ReferenceSet,
        attribute_head: AttributeHead | None = None,
    ) -> None:
        """Use a model whose classifier is in evaluation mode, on the device it computes on."""
        self.pretrained = pretrained
        self.runtime_choice = runtime_choice
        self.reference_set = reference_set
        self.attribute_head = attribute_head
        self.geometry = crop_geometry(pretrained)
        self.abstention = fit_run_abstention(pretrained)
        self._lock = Lock()
        self._reasons = partial(cell_reasons, attribute_head, pretrained.classifier, self._lock)
        self._runtime = replace(runtime_choice.runtime, features=self._locked_features)

    @classmethod
    def load(
        cls,
        model: str,
        runtime: str = "auto",
        device: str | None = None,
        precision: str = "fp32",
    ) -> Self:
        """Load a trained model.

        Args:
            model: A run's model folder, or a Hub model `org/name[@revision]`.
            runtime: auto, torch, compile, openvino or onnx.
            device: A torch device; the CPU by default.
            precision: fp32 or bf16.

        Raises:
            ValueError: If the model does not exist or has other classes, if its reference file is
                damaged, or if the runtime is rejected (see `choose_runtime`).
        """
        pretrained = load_trained(model)
        pretrained.classifier.to(_device(device)).eval()
        reference_set = read_reference_set(model, pretrained)
        runtime_choice = choose_runtime(
            pretrained.classifier,
            pretrained.preprocessing,
            runtime,
            precision,
            pretrained.revision,
        )
        attribute_head = read_attribute_head(model, pretrained)
        return cls(pretrained, runtime_choice, reference_set, attribute_head)

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the model as plain JSON values."""
        pretrained, abstention = self.pretrained, self.abstention
        gallery = self.reference_set.gallery
        return {
            "revision": pretrained.revision,
            "exposure": pretrained.exposure,
            "exposed_to": list(pretrained.exposed_to),
            "runtime": self.runtime_choice.to_dict(),
            "image_size_px": pretrained.preprocessing.size,
            "um": self.geometry.um,
            "calibrated": abstention is not None,
            "abstention": None if abstention is None else abstention.to_dict(),
            "num_reference_cells": 0 if gallery is None else len(gallery.labels),
            "reference_sources": [] if gallery is None else sorted(set(gallery.sources)),
            "knows_confusion": self.held_out is not None,
            "reference": self.reference_set.metadata,
            "attributes": [] if self.attribute_head is None else list(self.attribute_head.reliable),
        }

    @property
    def held_out(self) -> HeldOut | None:
        """Held-out cells that measure the model's confusion, to correct differential counts."""
        held_out = self.reference_set.held_out
        if held_out is None or self.abstention is None:
            return held_out
        return replace(held_out, rejected=self.abstention.rejection.rejects(held_out.logits))

    def predict(
        self,
        images: Sequence[Image.Image | Pixels],
        um_per_px: Scale = None,
        is_found: Sequence[bool] | None = None,
        nuclei: Sequence[Nucleus | None] | None = None,
    ) -> list[CellPrediction]:
        """Classify images, each showing one cell.

        Args:
            images: 8-bit RGB images of any size, or arrays (H, W, 3) uint8.
            um_per_px: One scale for all images, or one for each. None estimates it (see
                `hf_wbc.data.scale`): a single None estimates one scale from all images together,
                which is more reliable; a None in a list estimates that image's scale from the
                image alone. An earlier estimate may be passed again.
            is_found: Whether the finder cut each image out of a field, 25 um around a cell. Such
                images are not checked for further cells.
            nuclei: The nucleus of each image from `find_nucleus`, if it has been found already.

        Returns:
            One prediction per image, in the order of the images.

        Raises:
            ValueError: For an impossible scale, or an image that is not 8-bit RGB.
        """
        if not images:
            return []
        arrays = [to_rgb(image) for image in images]
        frames = crop_frames(arrays, um_per_px, nuclei)
        crops = np.stack(
            [extract_crop(a, f, self.geometry) for a, f in zip(arrays, frames, strict=True)]
        )
        preprocessing, is_measured = self.preprocessing_for(crops)
        features = self.features(crops, preprocessing)
        logits = self.logits(features)
        rejected = np.zeros(len(logits), bool)
        if self.abstention is not None:
            rejected = self.abstention.rejection.rejects(logits)
        gallery = self.reference_set.gallery
        appearance = None if gallery is None else gallery.appearance
        of_images = [
            image_warnings(pixels, frame, appearance, found)
            for pixels, frame, found in zip(
                arrays, frames, is_found or [False] * len(arrays), strict=True
            )
        ]
        # Training has neither empty images nor fields of many cells.
        rejected |= [EMPTY in warnings or is_field(warnings) for warnings in of_images]
        outliers = recognize(self.reference_set.outliers, features)
        warnings = [
            (
                *found,
                *([outside_warning(outlier)] if is_rejected or outlier else []),
                *([] if is_measured else [UNMEASURED]),
            )
            for found, outlier, is_rejected in zip(of_images, outliers, rejected, strict=True)
        ]
        reasons = self._reasons(crops, preprocessing, features, logits)
        return self._predictions(frames, logits, features, rejected, outliers, warnings, reasons)

    def features(self, crops: Pixels, preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
        """Compute penultimate features (N, d) of crops (N, S, S, 3) with the chosen runtime."""
        return run_runtime(self._runtime, crops, preprocessing, self._device)

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits (N, 11) from features (N, d)."""
        return apply_head(self.pretrained.classifier, features)

    def saliency(
        self, image: Image.Image | Pixels, um_per_px: float | None, label: int
    ) -> tuple[NDArray[np.float32], DeletionTest]:
        """Compute a class's saliency map and the deletion test of that map.

        Returns:
            The map (S, S) in [0, 1] over the crop that `CellPrediction.box` outlines, at the
            model's input size, and the test that says whether the map marks what matters.
        """
        inputs = self.preprocess_image(image, um_per_px)
        with self._lock:
            heat = saliency_map(self.differentiable_logits(), inputs, label)
            return heat, deletion_test(self.differentiable_logits(), inputs, label, heat)

    def preprocess_image(self, image: Image.Image | Pixels, um_per_px: float | None) -> Tensor:
        """Crop and normalize one image to the model's input (1, 3, S, S)."""
        pixels = to_rgb(image)
        (frame,) = crop_frames([pixels], um_per_px)
        crop = extract_crop(pixels, frame, self.geometry)[None]
        return preprocess(torch.from_numpy(crop).to(self._device), self.preprocessing_for(crop)[0])

    def differentiable_logits(self) -> Callable[[Tensor], Tensor]:
        """Return torch's function from images (B, 3, S, S) to logits (B, 11), with gradients.

        It is not thread-safe.
        """
        return lambda images: self.pretrained.classifier(images).logits

    def neighbors(self, prediction: CellPrediction, k: int = 6) -> list[Neighbor]:
        """Find the k nearest training cells, nearest first; [] without a reference set."""
        gallery = self.reference_set.gallery
        if gallery is None:
            return []
        distances = 1 - gallery.features @ unit_rows(prediction.features[None])[0]
        return [
            Neighbor(
                gallery.thumbnails[row],
                int(gallery.labels[row]),
                gallery.sources[row],
                gallery.image_ids[row],
                float(max(distances[row], 0.0)),
            )
            for row in np.argsort(distances, kind="stable")[: max(k, 0)].tolist()
        ]

    def preprocessing_for(self, crops: Pixels) -> tuple[ImagePreprocessing, bool]:
        """Choose the preprocessing of crops (N, S, S, 3) under the model's rule.

        Returns:
            The preprocessing, and whether the rule could be applied in full. A rule that measures
            the laboratory's stain or sharpness needs ENOUGH crops; with fewer, the crops are only
            normalized.
        """
        rule, preprocessing = self.pretrained.rule, self.pretrained.preprocessing
        plain = ImagePreprocessing(preprocessing.mean, preprocessing.std, rule.blur_um, rule.flips)
        if not rule.needs_images:
            return plain, True
        if len(crops) < ENOUGH:
            return plain, False
        table = Table.unlabeled(crops)
        return rule.fit(table, preprocessing.mean, preprocessing.std), True

    @property
    def _device(self) -> torch.device:
        return self.pretrained.classifier.head.weight.device

    def _locked_features(self, inputs: Tensor) -> Tensor:
        """Compute one batch; other threads take turns between batches."""
        with self._lock:
            return self.runtime_choice.runtime.features(inputs)

    def _predictions(
        self,
        frames: Sequence[CropFrame],
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
        rejected: NDArray[np.bool_],
        outliers: Sequence[str],
        warnings: Sequence[tuple[str, ...]],
        reasons: Sequence[tuple[Reason, ...]],
    ) -> list[CellPrediction]:
        probabilities = softmax(logits.astype(np.float64), axis=1)
        in_set = np.zeros(logits.shape, bool)
        if self.abstention is not None:
            in_set = self.abstention.within_class.sets(logits)
        return [
            CellPrediction(
                probabilities=p,
                label=int(p.argmax()),
                conformal_set=tuple(
                    int(c) for c in np.argsort(-p, kind="stable") if in_set[row, c]
                ),
                rejected=bool(rejected[row] or outliers[row]),
                outlier=outliers[row],
                lineage=by_lineage(p),
                um_per_px=frame.um_per_px,
                scale_estimate=frame.estimate,
                box=frame.box,
                warnings=warnings[row],
                features=features[row],
                logits=logits[row],
                reasons=(
                    ()
                    if rejected[row] or outliers[row] or FOREIGN in warnings[row]
                    else reasons[row]
                ),
            )
            for row, (p, frame) in enumerate(zip(probabilities, frames, strict=True))
        ]


def to_rgb(image: Image.Image | Pixels) -> Pixels:
    """Convert an image to upright pixels (H, W, 3) uint8, dropping an alpha channel.

    Raises:
        ValueError: If the image is not 8-bit RGB.
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"an image has Pillow mode {image.mode}; convert it to 8-bit RGB")
        image = np.asarray(ImageOps.exif_transpose(image))[..., :3]
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"an image has shape {image.shape} and type {image.dtype}; pass (H, W, 3) uint8"
        )
    return np.ascontiguousarray(image)


def crop_frames(
    arrays: Sequence[Pixels], um_per_px: Scale, nuclei: Sequence[Nucleus | None] | None = None
) -> list[CropFrame]:
    """Locate the 25 um crop of each image.

    Args:
        arrays: Images (H, W, 3) uint8.
        um_per_px: One scale (or estimate) for all or one for each, where None is estimated: a
            single None from all images together, a None in a list from that image alone.
        nuclei: The nucleus of each image, if it has been found already.

    Raises:
        ValueError: For an impossible scale, or a number of scales that does not match the images.
    """
    if nuclei is None:
        nuclei = [find_nucleus(pixels) for pixels in arrays]
    scales: list[float | ScaleEstimate]
    if isinstance(um_per_px, Sequence):
        if len(um_per_px) != len(arrays):
            raise ValueError(
                f"{len(um_per_px)} scales for {len(arrays)} images; pass one scale, or one per "
                "image"
            )
        scales = [
            estimate_scale([pixels], [nucleus]) if scale is None else scale
            for pixels, nucleus, scale in zip(arrays, nuclei, um_per_px, strict=True)
        ]
    else:
        known = estimate_scale(arrays, nuclei) if um_per_px is None else um_per_px
        scales = [known] * len(arrays)
    return [locate_crop(*each) for each in zip(arrays, nuclei, scales, strict=True)]


def _device(name: str | None) -> torch.device:
    try:
        return torch.device(name or "cpu")
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use cpu or cuda") from error
