"""Answers in words are scored like classes; Inspect runs the scorer where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_wbc.evaluation.inspect_scorer import macro_f1_of_names, parse_class, wbc_scorer
from hf_wbc.evaluation.metrics import score
from hf_wbc.taxonomy import NAMES


def test_score_matches_the_metric() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 9, (2, 200))
    pairs = [(NAMES[a], NAMES[b]) for a, b in zip(labels, predictions, strict=True)]
    assert macro_f1_of_names(pairs) == pytest.approx(score(labels, predictions)["macro_f1"])
    every = [(name, name) for name in NAMES]
    assert macro_f1_of_names(every) == 1.0
    assert macro_f1_of_names([*every[1:], (NAMES[0], "none")]) == pytest.approx(10 / 11)
    with pytest.raises(ValueError, match="platelet"):
        macro_f1_of_names([("platelet", "monocyte")])


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        *((name, name) for name in NAMES),
        ("This is a band neutrophil.", "neutrophil_banded"),
        ('{"class": "promyelocyte", "because": "not a myelocyte"}', "promyelocyte"),
        ("a myelocyte or a metamyelocyte", "none"),
        ("", "none"),
        ("[1]", "none"),
    ],
)
def test_answer_must_name_exactly_one_class(answer: str, name: str) -> None:
    assert parse_class(answer) == name


@pytest.mark.slow
@pytest.mark.ci
def test_inspect_scores_a_task(tmp_path: Path) -> None:
    inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import Generate, TaskState, solver

    @solver
    def answer() -> Any:  # a model would count tokens with tables that it downloads
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state.output = ModelOutput.from_content("given", state.input_text)
            return state

        return solve

    given = {"a monocyte": "monocyte", "eosinophil": "eosinophil", "I cannot say": "monocyte"}
    samples = [Sample(input=said, target=name) for said, name in given.items()]
    task = inspect_ai.Task(dataset=samples, solver=answer(), scorer=wbc_scorer())
    (log,) = inspect_ai.eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    assert log.status == "success"
    (metric,) = log.results.scores[0].metrics.values()
    assert metric.value == pytest.approx((2 / 3 + 1) / 2)
