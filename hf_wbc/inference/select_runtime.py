"""The engine of a model: the one asked for, or the first that is installed and tells the truth.

Each is compared with torch in fp32 before it may answer. One that deviates by more than the
tolerance is refused: asked for by name that is an error, and otherwise the next one is tried.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.inference.runtime import Precision, Runtime
from hf_wbc.inference.runtimes import (
    compiled_runtime,
    eager_runtime,
    onnx_runtime,
    openvino_runtime,
)
from hf_wbc.models import Classifier, Preprocessing
from hf_wbc.text import did_you_mean

TOLERANCE = 1e-3
"""By which a probability in fp32 may differ from torch's, on each of the images that are tried."""
ENGINES = ("auto", "torch", "compile", "openvino", "onnx")
PRECISIONS = ("fp32", "bf16")
_MAKERS: Mapping[str, Callable[[Classifier, int, Precision, str | None], Runtime]] = {
    "torch": eager_runtime,
    "compile": compiled_runtime,
    "openvino": openvino_runtime,
    "onnx": onnx_runtime,
}
_NEEDS = {"openvino": ("openvino",), "onnx": ("onnxruntime", "onnxscript")}
_BY_SPEED = ("openvino", "onnx")
"""On a CPU, the fastest first; torch comes last."""
_NUM_TRIED = 8


@dataclass(frozen=True)
class RuntimeChoice:
    """An engine, and why it is this one."""

    engine: Runtime
    deviation: float
    """The largest difference of a probability from torch's in fp32, on the images tried."""
    passed_over: tuple[str, ...] = ()
    """Engines that were tried first, and what was wrong with them."""

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        engine = self.engine
        return {
            "name": engine.name,
            "version": engine.version,
            "precision": engine.precision,
            "deviation": float(f"{self.deviation:.0e}"),  # the last bits are the moment's
            "tolerance": TOLERANCE if engine.precision == "fp32" else None,
            "passed_over": list(self.passed_over),
        }


def choose_runtime(
    classifier: Classifier,
    preprocessing: Preprocessing,
    name: str = "auto",
    precision: str = "fp32",
    key: str | None = None,
) -> RuntimeChoice:
    """The engine `name` for a classifier in evaluation mode, which stays as it is.

    ValueError for an unknown engine or precision, one that is not installed, is not for the
    classifier's device, cannot take the model, or deviates. bf16 deviates by its nature, and is
    never chosen unless asked for; by `auto` on a CPU only where something has a unit for it. `key`
    names the weights, by which a conversion is found again.
    """
    _check(name, precision)
    wanted: Precision = "bf16" if precision == "bf16" else "fp32"
    reference = eager_runtime(classifier, preprocessing.size)
    inputs = probe(preprocessing).to(classifier.head.weight.device)
    expected = chances(classifier, reference.features(inputs))
    on_cpu = inputs.device.type == "cpu"
    if name != "auto":
        if not on_cpu and name in _NEEDS:
            raise ValueError(f"engine {name} computes on a CPU; the model is on {inputs.device}")
        return _verified(classifier, preprocessing, name, wanted, inputs, expected, key)
    passed_over: list[str] = []
    installed = [n for n in _BY_SPEED if on_cpu and all(map(find_spec, _NEEDS[n]))]
    for candidate in installed:
        try:
            found = _verified(classifier, preprocessing, candidate, wanted, inputs, expected, key)
        except ValueError as error:
            passed_over.append(str(error))
        else:
            return RuntimeChoice(found.engine, found.deviation, tuple(passed_over))
    if wanted == "bf16" and on_cpu:
        reasons = (
            "; ".join(each.partition(";")[0] for each in passed_over)
            or "OpenVINO, which might, is not installed"
        )
        raise ValueError(
            f"no engine gains anything by bf16 here ({reasons}); leave out --precision bf16, or "
            "take --engine torch, which on a processor without a unit for it is slower than fp32"
        )
    found = _verified(classifier, preprocessing, "torch", wanted, inputs, expected, key)
    return RuntimeChoice(found.engine, found.deviation, tuple(passed_over))


def probe(preprocessing: Preprocessing) -> Tensor:
    """Some images (8, 3, H, W) of a dark violet disc on a light ground, as the model takes them."""
    size, generator = preprocessing.size, torch.Generator().manual_seed(0)
    place = torch.linspace(-1, 1, size)
    far = (place[:, None] ** 2 + place**2).sqrt()
    radii = torch.linspace(0.2, 0.7, _NUM_TRIED)
    inside = (far < radii[:, None, None]).float()[..., None]
    cell = torch.rand(_NUM_TRIED, 1, 1, 3, generator=generator) * 60 + torch.tensor([90, 50, 130])
    ground = torch.tensor([235.0, 215.0, 220.0])
    noise = torch.randn(_NUM_TRIED, size, size, 3, generator=generator) * 12
    images = (inside * cell + (1 - inside) * ground + noise).clamp(0, 255).to(torch.uint8)
    return preprocess(images, ImagePreprocessing(preprocessing.mean, preprocessing.std))


@torch.inference_mode()
def chances(classifier: Classifier, features: Tensor) -> Tensor:
    """Probabilities (B, 11) that the head makes of features (B, d)."""
    found: Tensor = classifier.head(features).double().softmax(1)
    return found


def _verified(
    classifier: Classifier,
    preprocessing: Preprocessing,
    name: str,
    precision: Precision,
    inputs: Tensor,
    expected: Tensor,
    key: str | None,
) -> RuntimeChoice:
    """The engine, after one image alone and then all of them have had torch's answer."""
    size = preprocessing.size
    try:
        engine = _MAKERS[name](classifier, size, precision, key)
        together = engine.features(inputs)
        alone = engine.features(inputs[:1])
    except ImportError as error:
        raise ValueError(
            f"engine {name} is not installed ({error}); pip install 'hf_wbc[engines]', or take "
            "--engine torch"
        ) from error
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"engine {name} cannot take this model: {reason}") from error
    found = chances(classifier, together)
    deviation = max(
        float((found - expected).abs().max()),
        float((chances(classifier, alone) - expected[:1]).abs().max()),
    )
    if precision == "fp32" and not deviation <= TOLERANCE:
        raise ValueError(
            f"engine {name} is refused: a probability differs by {deviation:.2g} from torch's in "
            f"fp32, and at most {TOLERANCE:g} is tolerated; take --engine torch"
        )
    return RuntimeChoice(engine, deviation)


def _check(name: str, precision: str) -> None:
    for what, value, known in (("engine", name, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; {did_you_mean(value, known)}")
