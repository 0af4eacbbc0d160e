"""The four runtimes: eager torch, compiled torch, ONNX Runtime and OpenVINO.

Eager torch is the reference that `choose_runtime` compares the others with. ONNX Runtime and
OpenVINO compute on a CPU; their conversions are cached under a `key` that names the weights.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_wbc.engine.forward import PIXELS_AT_ONCE, Features, Precision, Runtime, batch_size_for
from hf_wbc.inference.runtime import backbone_module, cached_conversion
from hf_wbc.models import Classifier
from hf_wbc.models.utils import quiet_transformers

__all__ = [
    "OPENVINO_TELEMETRY",
    "compiled_runtime",
    "eager_runtime",
    "onnx_runtime",
    "openvino_runtime",
]

CPU_BATCH = 8
GPU_BATCH = 64
COMPILED_BATCH = 16
"""Fixed, so that one compilation suffices; smaller batches are padded."""
ONNX_FILE = "model.onnx"
STREAM_BATCH = 4
"""Number of images that one of OpenVINO's streams computes at once."""
OPENVINO_FILE = "model.xml"
OPENVINO_TELEMETRY = "openvino_telemetry"
"""A package that sends usage data when OpenVINO is imported."""
OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16"}


def eager_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Run the network in eager torch; it always works and caches nothing."""
    device = classifier.head.weight.device
    at_most = PIXELS_AT_ONCE if device.type == "cpu" else GPU_BATCH
    batch_size = batch_size_for((size, size, 3), device, at_most)
    features = _torch_features(backbone_module(classifier), precision)
    return Runtime("torch", precision, features, torch.__version__, batch_size)


def compiled_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Run the network through torch.compile.

    The first batch takes seconds to a minute, which pays off for many images.
    """
    compiled = torch.compile(backbone_module(classifier), dynamic=False)
    run = _torch_features(compiled, precision)

    def features(inputs: Tensor) -> Tensor:
        parts = []
        for part in torch.split(inputs, COMPILED_BATCH):
            missing = COMPILED_BATCH - len(part)
            padded = torch.cat([part, part[:1].expand(missing, -1, -1, -1)])
            parts.append(run(padded)[: len(part)])
        return torch.cat(parts)

    return Runtime("compile", precision, features, torch.__version__, COMPILED_BATCH)


def _torch_features(network: Callable[[Tensor], Tensor], precision: Precision) -> Features:
    @torch.inference_mode()
    def features(inputs: Tensor) -> Tensor:
        with _autocast(inputs.device, precision):
            found: Tensor = network(inputs)
        return found.float()

    return features


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def onnx_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Run the network in ONNX Runtime on a CPU, in fp32.

    Args:
        classifier: The model to export.
        size: Side of its input in pixels.
        precision: Must be fp32.
        key: Names the weights; an export with the same key is cached and reused.

    Raises:
        ImportError: If ONNX Runtime, or onnxscript for the export, is not installed.
        ValueError: For another precision.
    """
    if precision != "fp32":
        raise ValueError(
            f"the ONNX runtime computes in fp32 only, not in {precision}; choose another --runtime"
        )
    onnxruntime: Any = import_module("onnxruntime")
    import_module("onnxscript")  # torch.onnx.export needs it, but fails late without it

    def write(folder: Path) -> None:
        (folder / ONNX_FILE).write_bytes(_export_onnx(classifier, size))

    version = onnxruntime.__version__
    facts = {"key": key, "size": size, "onnx": version, "torch": torch.__version__}
    cached = cached_conversion(facts if key else None, write)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    network = str(cached / ONNX_FILE) if cached else _export_onnx(classifier, size)
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def features(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])

    return Runtime("onnx", precision, features, version, CPU_BATCH)


def _export_onnx(classifier: Classifier, size: int) -> bytes:
    """Export the network to ONNX for batches of any size."""
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


def openvino_runtime(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Runtime:
    """Run the network in OpenVINO on a CPU, without its telemetry.

    The precision is set explicitly, because OpenVINO's default is bf16 on processors with a unit
    for it.

    Args:
        classifier: The model to convert.
        size: Side of its input in pixels.
        precision: fp32, or bf16 on a processor with a unit for it.
        key: Names the weights; a conversion with the same key is cached and reused.

    Raises:
        ImportError: If OpenVINO is not installed.
        ValueError: If OpenVINO silently computes in another precision, as it does when the
            processor lacks a bf16 unit.
    """
    with _without_telemetry():
        openvino: Any = import_module("openvino")
    version = openvino.get_version().split("-")[0]

    def write(folder: Path) -> None:
        # save_model compresses to half precision by default.
        converted = _convert_openvino(openvino, classifier, size)
        openvino.save_model(converted, folder / OPENVINO_FILE, compress_to_fp16=False)

    facts = {"key": key, "size": size, "openvino": version, "torch": torch.__version__}
    cached = cached_conversion(facts if key else None, write)
    network = (
        openvino.Core().read_model(cached / OPENVINO_FILE)
        if cached
        else _convert_openvino(openvino, classifier, size)
    )
    num_threads = torch.get_num_threads()
    run_few = _compile_openvino(network, precision, num_threads, num_streams=1)
    if num_threads == 1:
        return Runtime("openvino", precision, run_few, version, CPU_BATCH)
    run_many: Features | None = None

    def features(inputs: Tensor) -> Tensor:
        nonlocal run_many
        if len(inputs) < CPU_BATCH:
            return run_few(inputs)
        if run_many is None:
            run_many = _compile_openvino(network, precision, num_threads, num_streams=num_threads)
        return run_many(inputs)

    batch_size = max(CPU_BATCH, 2 * STREAM_BATCH * num_threads)
    return Runtime("openvino", precision, features, version, batch_size)


def _compile_openvino(
    network: Any, precision: Precision, num_threads: int, num_streams: int
) -> Features:
    """Compile a network for a number of streams, each of which takes a part of the batch.

    One stream answers a few images fastest; a stream for each thread computes the most images per
    second, because no thread waits for another within a layer.
    """
    openvino: Any = import_module("openvino")
    settings = {
        "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[precision],
        "INFERENCE_NUM_THREADS": str(num_threads),
        "NUM_STREAMS": str(num_streams),
        "PERFORMANCE_HINT": "LATENCY" if num_streams == 1 else "THROUGHPUT",
    }
    core = openvino.Core()
    model = core.compile_model(network, "CPU", settings)
    computes_in = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        computes_in = "f32"  # newer versions repeat the hint instead of what they compute in
    if computes_in != OPENVINO_TYPES[precision]:
        raise ValueError(
            f"OpenVINO computes in {computes_in} instead of {precision} on this processor; "
            "leave out --precision"
        )
    output = model.output(0)
    if num_streams == 1:
        return lambda inputs: torch.from_numpy(model(inputs.numpy())[output].copy())
    requests = openvino.AsyncInferQueue(model, 2 * num_streams)

    def features(inputs: Tensor) -> Tensor:
        parts = torch.split(inputs, STREAM_BATCH)
        found: list[Tensor] = [inputs] * len(parts)

        def keep(request: Any, number: int) -> None:
            found[number] = torch.from_numpy(request.get_output_tensor(0).data.copy())

        requests.set_callback(keep)
        for number, part in enumerate(parts):
            requests.start_async({0: part.numpy()}, number)
        requests.wait_all()
        return torch.cat(found)

    return features


def _convert_openvino(openvino: Any, classifier: Classifier, size: int) -> Any:
    """Convert the network to OpenVINO for batches of any size."""
    with _without_telemetry(), quiet_transformers(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing fixes the image size, as intended
        return openvino.convert_model(
            backbone_module(classifier),
            example_input=torch.zeros(2, 3, size, size),
            input=[(-1, 3, size, size)],
        )


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Block OpenVINO's telemetry package; OpenVINO then falls back to a stub.

    Telemetry would send data from a hospital's computer on import, without asking.
    """
    if OPENVINO_TELEMETRY in sys.modules:
        yield
        return
    sys.modules[OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to block it
    try:
        yield
    finally:
        del sys.modules[OPENVINO_TELEMETRY]
