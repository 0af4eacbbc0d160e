"""White blood cell classification that survives the change of laboratory.

    >>> import hf_wbc
    >>> len(hf_wbc.CLASSES)
    11

The names below are loaded when they are first used, so that `import hf_wbc` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_wbc import taxonomy
    from hf_wbc.api import (
        compare,
        embed,
        evaluate,
        load_domain,
        predict,
        prepare,
        publish,
        train,
    )
    from hf_wbc.config import TrainConfig
    from hf_wbc.evaluation.wbc_macro_f1 import WbcMacroF1
    from hf_wbc.inference.predictor import Predictor
    from hf_wbc.labeling.open_learner import label
    from hf_wbc.taxonomy import CLASSES

__version__ = "0.1.0"
__all__ = [
    "CLASSES",
    "Predictor",
    "TrainConfig",
    "WbcMacroF1",
    "compare",
    "embed",
    "evaluate",
    "label",
    "load_domain",
    "predict",
    "prepare",
    "publish",
    "taxonomy",
    "train",
]

_MODULES = {
    "CLASSES": "hf_wbc.taxonomy",
    "Predictor": "hf_wbc.inference.predictor",
    "TrainConfig": "hf_wbc.config",
    "label": "hf_wbc.labeling.open_learner",
    "WbcMacroF1": "hf_wbc.evaluation.wbc_macro_f1",
}


def __getattr__(name: str) -> Any:
    if name == "taxonomy":
        return importlib.import_module("hf_wbc.taxonomy")
    if name not in __all__:
        raise AttributeError(f"module 'hf_wbc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "hf_wbc.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
