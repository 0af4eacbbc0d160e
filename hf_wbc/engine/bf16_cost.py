"""What bf16 costs on some cells: how many answers it turns, and macro-F1 where labels are known."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.metrics import score
from hf_wbc.taxonomy import UNLABELLED

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SAMPLE = 1000
"""Cells that it is measured on, at most."""


def bf16_cost(
    exact: Answer, fast: Answer, squares: NDArray[np.uint8], labels: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Of answers `fast` against `exact` on squares (N, S, S, 3); plain JSON values.

    macro-F1 is of the labelled cells (N,) alone, None where there are none.
    """
    found = [answer(squares).argmax(1) for answer in (exact, fast)]
    cost: dict[str, Any] = {
        "num_cells": len(squares),
        "turned": float((found[0] != found[1]).mean()),
        "macro_f1_fp32": None,
        "macro_f1_bf16": None,
    }
    if labels is not None and (known := labels != UNLABELLED).any():
        for name, classes in zip(("macro_f1_fp32", "macro_f1_bf16"), found, strict=True):
            cost[name] = score(labels[known], classes[known])["macro_f1"]
    return cost


def say_cost(cost: dict[str, Any]) -> str:
    """In a sentence."""
    text = f"bf16 turned {cost['turned']:.2%} of the answers on {cost['num_cells']:,} cells"
    if cost["macro_f1_fp32"] is None:
        return f"{text}; none of them has a label, so what that costs is not known"
    return f"{text}; macro-F1 {cost['macro_f1_bf16']:.4f} against {cost['macro_f1_fp32']:.4f}"
