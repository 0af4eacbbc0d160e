"""Choose a model's runtime: the requested one, or the fastest that agrees with torch.

Every runtime is compared with eager torch in fp32 before use: the probabilities of trained models,
the features of backbones that embed. One that deviates by more than TOLERANCE is rejected: that is
an error if it was requested by name, and otherwise the next fastest is tried.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.engine.forward import Precision, Runtime
from hf_wbc.inference.runtimes import (
    compiled_runtime,
    eager_runtime,
    onnx_runtime,
    openvino_runtime,
)
from hf_wbc.models import Classifier, Preprocessing, PretrainedModel, load_classifier
from hf_wbc.text import did_you_mean

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "TOLERANCE",
    "RuntimeChoice",
    "choose_other_than_torch",
    "choose_runtime",
    "head_probabilities",
    "load_to_embed",
    "probe_images",
]

TOLERANCE = 1e-3
"""Largest accepted difference of a probability from torch's in fp32, on each probe image; and, for
embedding, of a feature in standard deviations of all features of the probe images."""
RUNTIMES = ("auto", "torch", "compile", "openvino", "onnx")
PRECISIONS = ("fp32", "bf16")
MAKERS: Mapping[str, Callable[[Classifier, int, Precision, str | None], Runtime]] = {
    "torch": eager_runtime,
    "compile": compiled_runtime,
    "openvino": openvino_runtime,
    "onnx": onnx_runtime,
}
REQUIRED_PACKAGES = {"openvino": ("openvino",), "onnx": ("onnxruntime", "onnxscript")}
"""Packages of the runtimes that compute on a CPU only."""
FASTEST_FIRST = ("openvino", "onnx")
"""Order in which `auto` tries runtimes on a CPU; torch is the last resort."""
NUM_PROBES = 8


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime, and why it was chosen."""

    runtime: Runtime
    deviation: float
    """Largest difference of a probability from torch's in fp32, on the probe images; if features
    were compared, of a feature in standard deviations of all features."""
    rejected: tuple[str, ...] = ()
    """Why faster runtimes were rejected."""

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as plain JSON values."""
        runtime = self.runtime
        return {
            "name": runtime.name,
            "version": runtime.version,
            "precision": runtime.precision,
            "deviation": float(f"{self.deviation:.0e}"),  # further digits vary from run to run
            "tolerance": TOLERANCE if runtime.precision == "fp32" else None,
            "rejected": list(self.rejected),
        }


def choose_runtime(
    classifier: Classifier,
    preprocessing: Preprocessing,
    name: str = "auto",
    precision: str = "fp32",
    key: str | None = None,
    compare: Literal["probabilities", "features"] = "probabilities",
) -> RuntimeChoice:
    """Choose the runtime of a classifier in evaluation mode.

    Args:
        classifier: The model; it is not changed.
        preprocessing: Input size and normalization of the model.
        name: One of RUNTIMES.
        precision: fp32, or bf16, which is never chosen by itself and has no tolerance. On a CPU,
            `auto` accepts bf16 only if some runtime has a hardware unit for it.
        key: Names the weights; conversions are cached under it.
        compare: What must agree with torch: probabilities, or features if the head is untrained.

    Raises:
        ValueError: For an unknown runtime or precision, and for a runtime that is not installed,
            does not support the classifier's device or model, or deviates.
    """
    _check_names(name, precision)
    dtype: Precision = "bf16" if precision == "bf16" else "fp32"
    reference = eager_runtime(classifier, preprocessing.size)
    inputs = probe_images(preprocessing).to(classifier.head.weight.device)
    judged_by = classifier if compare == "probabilities" else None
    probe = _Probe(inputs, reference.features(inputs), judged_by)
    on_cpu = inputs.device.type == "cpu"

    def verified(candidate: str) -> RuntimeChoice:
        return _verify(classifier, preprocessing.size, candidate, dtype, probe, key)

    if name != "auto":
        if not on_cpu and name in REQUIRED_PACKAGES:
            raise ValueError(
                f"runtime {name} computes on a CPU, but the model is on {inputs.device}"
            )
        return verified(name)
    rejected: list[str] = []
    installed = [n for n in FASTEST_FIRST if on_cpu and all(map(find_spec, REQUIRED_PACKAGES[n]))]
    for candidate in installed:
        try:
            choice = verified(candidate)
        except ValueError as error:
            rejected.append(str(error))
        else:
            return RuntimeChoice(choice.runtime, choice.deviation, tuple(rejected))
    if dtype == "bf16" and on_cpu:
        reasons = (
            "; ".join(each.partition(";")[0] for each in rejected)
            or "OpenVINO, which may support it, is not installed"
        )
        raise ValueError(
            f"no runtime is faster in bf16 here ({reasons}); leave out --precision bf16, or "
            "use --runtime torch, which without hardware support is slower in bf16 than in fp32"
        )
    choice = verified("torch")
    return RuntimeChoice(choice.runtime, choice.deviation, tuple(rejected))


def probe_images(preprocessing: Preprocessing) -> Tensor:
    """Draw probe images (8, 3, S, S), normalized for the model: a dark disc on a light ground."""
    size, generator = preprocessing.size, torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, size)
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    radii = torch.linspace(0.2, 0.7, NUM_PROBES)
    inside = (distance < radii[:, None, None]).float()[..., None]
    cell = torch.rand(NUM_PROBES, 1, 1, 3, generator=generator) * 60 + torch.tensor([90, 50, 130])
    ground = torch.tensor([235.0, 215.0, 220.0])
    noise = torch.randn(NUM_PROBES, size, size, 3, generator=generator) * 12
    images = (inside * cell + (1 - inside) * ground + noise).clamp(0, 255).to(torch.uint8)
    return preprocess(images, ImagePreprocessing(preprocessing.mean, preprocessing.std))


@torch.inference_mode()
def head_probabilities(classifier: Classifier, features: Tensor) -> Tensor:
    """Compute the head's probabilities (B, 11) of features (B, d)."""
    probabilities: Tensor = classifier.head(features).double().softmax(1)
    return probabilities


@dataclass(frozen=True)
class _Probe:
    """Images that every runtime computes, and what torch in fp32 makes of them."""

    inputs: Tensor
    """Images (B, 3, S, S), normalized for the model."""
    features: Tensor
    """Torch's features (B, d)."""
    classifier: Classifier | None
    """Compares probabilities; None compares features."""

    @property
    def what(self) -> str:
        """What is compared, for error messages."""
        return "a feature, in standard deviations," if self.classifier is None else "a probability"

    def deviation(self, features: Tensor) -> float:
        """Return the largest difference of a runtime's features (b, d) of the first b images."""
        found, expected = self._values(features), self._values(self.features[: len(features)])
        return float((found - expected).abs().max())

    def _values(self, features: Tensor) -> Tensor:
        if self.classifier is None:
            return features.double() / self.features.double().std()
        return head_probabilities(self.classifier, features)


def _verify(
    classifier: Classifier,
    size: int,
    name: str,
    precision: Precision,
    probe: _Probe,
    key: str | None,
) -> RuntimeChoice:
    """Make a runtime and compare it with torch, on all probe images and on one alone."""
    try:
        runtime = MAKERS[name](classifier, size, precision, key)
        together = runtime.features(probe.inputs)
        alone = runtime.features(probe.inputs[:1])
    except ImportError as error:
        raise ValueError(
            f"runtime {name} is not installed ({error}); pip install 'hf_wbc[engines]', or use "
            "--runtime torch"
        ) from error
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"runtime {name} does not support this model: {reason}") from error
    deviation = float(np.max([probe.deviation(together), probe.deviation(alone)]))  # keeps NaN
    if precision == "fp32" and not deviation <= TOLERANCE:  # also rejects NaN
        raise ValueError(
            f"runtime {name} is rejected: {probe.what} differs by {deviation:.2g} from torch's in "
            f"fp32, more than the tolerance of {TOLERANCE:g}; use --runtime torch"
        )
    return RuntimeChoice(runtime, deviation)


def load_to_embed(
    model: str, image_size: int | None, runtime: str, device: torch.device
) -> tuple[PretrainedModel, Runtime | None]:
    """Load a model and choose the runtime that computes its features; None is eager torch.

    Args:
        model: A short name, a Hub model `org/name[@revision]`, or a folder.
        image_size: Side of the model's input in pixels; None takes the checkpoint's own.
        runtime: One of RUNTIMES. Its features must agree with torch's.
        device: Device of the model.

    Raises:
        ValueError: If the model cannot be used, or the runtime is rejected.
    """
    pretrained = load_classifier(model, image_size=image_size)
    pretrained.classifier.to(device).eval()
    choice = choose_other_than_torch(pretrained, runtime, compare="features")
    return pretrained, None if choice is None else choice.runtime


def choose_other_than_torch(
    pretrained: PretrainedModel,
    name: str,
    compare: Literal["probabilities", "features"] = "probabilities",
) -> RuntimeChoice | None:
    """Choose the runtime of a model on its device; None if the choice is eager torch.

    Evaluations and features of eager torch keep the names and the bits that they have without a
    choice; those of other runtimes have names of their own.

    Raises:
        ValueError: See `choose_runtime`.
    """
    if name == "torch":
        return None
    choice = choose_runtime(
        pretrained.classifier,
        pretrained.preprocessing,
        name,
        key=pretrained.revision,
        compare=compare,
    )
    return None if choice.runtime.name == "torch" else choice


def _check_names(name: str, precision: str) -> None:
    for kind, value, known in (("runtime", name, RUNTIMES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f"unknown {kind} {value!r}; {did_you_mean(value, known)}")
