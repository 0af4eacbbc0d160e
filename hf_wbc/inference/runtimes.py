"""Torch itself: as it is, which every other engine is measured by, or compiled.

ONNX Runtime on a CPU, in fp32.

OpenVINO on a CPU, in fp32: left to itself it computes in bf16 where the processor can.

On import it sends the news to its makers, through a package of its own, without being asked. That
package is kept from it here: nothing of a hospital's computer goes anywhere."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_wbc.engine.forward import PIXELS_AT_ONCE
from hf_wbc.inference.runtime import Features, Precision, Runtime, backbone_module, converted
from hf_wbc.models import Classifier
from hf_wbc.models.utils import quiet_transformers

BATCH = 8


COMPILED_BATCH = 16
"""Fixed, so that one compilation serves; smaller batches are filled up."""
ON_A_GPU = 64


def eager_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """The network as it is; it always works, and keeps nothing."""
    on_cpu = classifier.head.weight.device.type == "cpu"
    batch_size = max(1, PIXELS_AT_ONCE // size**2) if on_cpu else ON_A_GPU
    features = _features(backbone_module(classifier), precision)
    return Runtime("torch", precision, features, torch.__version__, batch_size)


def compiled_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Through torch.compile: seconds to a minute before the first answer, for many images."""
    run = _features(torch.compile(backbone_module(classifier), dynamic=False), precision)

    def features(inputs: Tensor) -> Tensor:
        parts = []
        for part in torch.split(inputs, COMPILED_BATCH):
            missing = COMPILED_BATCH - len(part)
            filled = torch.cat([part, part[:1].expand(missing, -1, -1, -1)])
            parts.append(run(filled)[: len(part)])
        return torch.cat(parts)

    return Runtime("compile", precision, features, torch.__version__, COMPILED_BATCH)


def _features(network: Callable[[Tensor], Tensor], precision: Precision) -> Features:
    @torch.inference_mode()
    def features(inputs: Tensor) -> Tensor:
        with _casting(inputs.device, precision):
            found: Tensor = network(inputs)
        return found.float()

    return features


def _casting(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


_FILE = "model.onnx"


def onnx_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Exported here and now, or at an earlier time for the same `key`, which names the weights.

    ImportError where ONNX Runtime, or what an export needs, is not installed.
    """
    if precision != "fp32":
        raise ValueError(f"ONNX Runtime computes in fp32 here, not in {precision}; take another")
    onnxruntime: Any = import_module("onnxruntime")
    import_module("onnxscript")  # which torch.onnx.export needs, and says so late

    def keep(folder: Path) -> None:
        (folder / _FILE).write_bytes(_exported(classifier, size))

    version = onnxruntime.__version__
    facts = {"key": key, "size": size, "onnx": version, "torch": torch.__version__}
    kept = converted(facts if key else None, keep)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    network = str(kept / _FILE) if kept else _exported(classifier, size)
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def features(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])

    return Runtime("onnx", precision, features, version, BATCH)


def _exported(classifier: Classifier, size: int) -> bytes:
    """The network in ONNX's format, for batches of any size."""
    example = torch.zeros(2, 3, size, size)
    with quiet_transformers(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            backbone_module(classifier),
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


_TELEMETRY = "openvino_telemetry"
_openvino_engine_FILE = "model.xml"
_OWN_NAME = {"fp32": "f32", "bf16": "bf16"}


def openvino_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Converted here and now, or at an earlier time for the same `key`, which names the weights.

    ImportError where OpenVINO is not installed. ValueError for bf16 on a processor that has no unit
    for it: without a word it would compute in fp32.
    """
    with _silent():
        openvino: Any = import_module("openvino")
    version = openvino.get_version().split("-")[0]

    def convert() -> Any:
        with _silent(), quiet_transformers(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing fixes the image's size, as it should
            example = torch.zeros(2, 3, size, size)
            return openvino.convert_model(
                backbone_module(classifier), example_input=example, input=[(-1, 3, size, size)]
            )

    def keep(folder: Path) -> None:
        # Unless told otherwise it keeps half precision.
        openvino.save_model(convert(), folder / _openvino_engine_FILE, compress_to_fp16=False)

    facts = {"key": key, "size": size, "openvino": version, "torch": torch.__version__}
    kept = converted(facts if key else None, keep)
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": _OWN_NAME[precision],
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = core.read_model(kept / _openvino_engine_FILE) if kept else convert()
    model = core.compile_model(network, "CPU", settings)
    computes_in = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if computes_in != _OWN_NAME[precision]:
        raise ValueError(
            f"OpenVINO computes in {computes_in} on this processor though asked for {precision}; "
            "leave out --precision"
        )
    output = model.output(0)

    def features(inputs: Tensor) -> Tensor:
        return torch.from_numpy(model(inputs.numpy())[output].copy())

    return Runtime("openvino", precision, features, version, BATCH)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the package that calls home: OpenVINO then takes its own stand-in for it."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's own way to forbid it
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
