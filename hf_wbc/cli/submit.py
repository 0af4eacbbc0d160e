"""`hf-wbc submit`: score a model on a benchmark of the Hub and submit the result."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from hf_wbc.inference.options import RuntimeName

COMMON = {"to", "dry_run", "runtime"}
"""Flags that `--help` shows."""


def submit(
    model: Annotated[str, tyro.conf.Positional],
    to: str,
    out: Path = Path("build/evaluations"),
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    runtime: RuntimeName = "torch",
) -> None:
    """Score a model on a benchmark dataset, and submit the score.

    Example: hf-wbc submit org/wbc-vit --to org/acevedo_20

    Opens a pull request to the model's repository with .eval_results/DATASET.yaml; the dataset's
    leaderboard shows it. Anyone may do this for any model.

    Args:
        model: A Hub model of the eleven classes, `org/name[@revision]`.
        to: A Hub dataset with an eval.yaml, `org/name[@revision]`.
        out: Folder for the evaluation, which is not repeated if it exists.
        dry_run: Show the result file; open no pull request.
        runtime: What computes, as in `hf-wbc evaluate`.
    """
    from datetime import UTC, datetime
    from functools import partial

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.hub.benchmark import read_benchmark
    from hf_wbc.hub.submit import require_hub_model, submission
    from hf_wbc.hub.submit import submit as open_pull_request
    from hf_wbc.inference.evaluate import evaluate_model

    require_hub_model(model)
    benchmark = read_benchmark(to)
    data = f"{benchmark.repo_id}@{benchmark.revision}"
    with stage_progress() as report:
        folder = evaluate_model(
            model, data, out, ["test"], report=partial(report, "predict"), runtime=runtime
        )
    what = submission(model, benchmark, folder.read_record(), f"{datetime.now(UTC):%Y-%m-%d}")
    print(f"{what.path}\n{what.content.decode()}", end="")
    if dry_run:
        return
    print(open_pull_request(what, lambda line: print(line, file=sys.stderr, flush=True)))
