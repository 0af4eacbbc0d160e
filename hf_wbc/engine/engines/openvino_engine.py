"""OpenVINO on a CPU, in fp32: left to itself it computes in bf16 where the processor can.

On import it sends the news to its makers, through a package of its own, without being asked. That
package is kept from it here: nothing of a hospital's computer goes anywhere.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_wbc.engine.engines.contract import Engine, Precision, backbone_of
from hf_wbc.engine.engines.converted import converted
from hf_wbc.models import Classifier
from hf_wbc.models.utils import quiet

BATCH = 8
_TELEMETRY = "openvino_telemetry"
_FILE = "model.xml"
_OWN_NAME = {"fp32": "f32", "bf16": "bf16"}


def openvino_engine(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Engine:
    """Converted here and now, or at an earlier time for the same `key`, which names the weights.

    ImportError where OpenVINO is not installed. ValueError for bf16 on a processor that has no unit
    for it: without a word it would compute in fp32.
    """
    with _silent():
        openvino: Any = import_module("openvino")
    version = openvino.get_version().split("-")[0]

    def convert() -> Any:
        with _silent(), quiet(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing fixes the image's size, as it should
            example = torch.zeros(2, 3, size, size)
            return openvino.convert_model(
                backbone_of(classifier), example_input=example, input=[(-1, 3, size, size)]
            )

    def keep(folder: Path) -> None:
        # Unless told otherwise it keeps half precision.
        openvino.save_model(convert(), folder / _FILE, compress_to_fp16=False)

    facts = {"key": key, "size": size, "openvino": version, "torch": torch.__version__}
    kept = converted(facts if key else None, keep)
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": _OWN_NAME[precision],
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        "PERFORMANCE_HINT": "LATENCY",
    }
    network = core.read_model(kept / _FILE) if kept else convert()
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

    return Engine("openvino", precision, features, version, BATCH)


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
