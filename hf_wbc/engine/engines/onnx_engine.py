"""ONNX Runtime on a CPU, in fp32."""

import warnings
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
_FILE = "model.onnx"


def onnx_engine(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Engine:
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

    return Engine("onnx", precision, features, version, BATCH)


def _exported(classifier: Classifier, size: int) -> bytes:
    """The network in ONNX's format, for batches of any size."""
    example = torch.zeros(2, 3, size, size)
    with quiet(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            backbone_of(classifier),
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data
