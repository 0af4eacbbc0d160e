"""`hf-wbc submit`: measure a model on a benchmark of the Hub and submit the results."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import RuntimeName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_wbc.hub.benchmark import Benchmark

COMMON = {"to", "dry_run", "stress_cells", "patients", "allow_unscaled", "pull_request"}
"""Flags that `--help` shows."""


def submit(
    model: Annotated[str, tyro.conf.Positional],
    to: tuple[str, ...],
    out: KeptFolder = Path("build/evaluations"),
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    stress_cells: int = 500,
    patients: Path | None = None,
    merge: tuple[str, ...] = ("neutrophil_banded=neutrophil_segmented",),
    allow_unscaled: bool = False,
    pull_request: Literal["dataset", "model"] = "dataset",
    runtime: RuntimeName = "torch",
) -> None:
    """Score a model on a benchmark dataset, and submit the score.

    Example: hf-wbc submit org/wbc-vit --to org/acevedo_20 org/tecom_jiangxi

    Measures macro-F1 on the test images of each dataset, corruptions of the first one, and for
    several datasets the robustness index of the features. Opens one pull request with a result
    file, to the first dataset; its leaderboard shows the model once the request is merged and the
    leaderboard published again. Anyone may do this for any model.

    Args:
        model: A Hub model of the eleven classes, `org/name[@revision]`.
        to: Hub datasets with an eval.yaml, `org/name[@revision]`, one for each laboratory; the
            first one has the leaderboard.
        out: Folder for the evaluations, which are not repeated if they exist.
        dry_run: Show the result file; open no pull request.
        stress_cells: Cells of the first dataset to corrupt; 0 omits the corruptions.
        patients: Folder of `hf-wbc patients` on this model and one of the datasets, to submit too.
        merge: Classes to score as one where a dataset has none of the first, as FROM=INTO.
        allow_unscaled: Accept datasets of unknown scale, whose cells fill the frame.
        pull_request: Whose repository gets the file; the Hub shows it beside a `model`.
        runtime: What computes, as in `hf-wbc evaluate`.
    """
    from datetime import UTC, datetime

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.data.dataset import load_split
    from hf_wbc.hub.benchmark import read_benchmark
    from hf_wbc.hub.submit import require_hub_model, submission
    from hf_wbc.hub.submit import submit as open_pull_request
    from hf_wbc.inference.benchmark_scores import BenchmarkOptions, measure_model

    require_hub_model(model)
    if not to:
        raise ValueError("--to names no dataset; give org/name")
    found = [read_benchmark(ref) for ref in to]
    refs = [f"{each.repo_id}@{each.revision}" for each in found]
    options = BenchmarkOptions(merge, stress_cells, allow_unscaled, runtime=runtime)
    benchmarks = {load_split(ref, "test").name: each for ref, each in zip(refs, found, strict=True)}
    further = _further(model, benchmarks, patients)
    with stage_progress() as report:
        records = [*measure_model(model, refs, out, options, report), *further]
    revision, today = records[0]["model"]["revision"], f"{datetime.now(UTC):%Y-%m-%d}"
    what = submission(model, benchmarks, records, revision, today, pull_request)
    print_plain(f"{what.path}\n{what.content.decode()}", end="")
    if not dry_run:
        print_plain(open_pull_request(what, partial(print_plain, file=sys.stderr, flush=True)))


def _further(
    model: str, benchmarks: "Mapping[str, Benchmark]", patients: Path | None
) -> "Sequence[dict[str, Any]]":
    """Return the records that were measured before: of the model's attributes and of patients.

    A head for attributes that was scored on a dataset of another name is left out.

    Raises:
        ValueError: If a record is damaged, or of another kind, model or dataset.
    """
    from hf_wbc.hub.result_entries import record_entries
    from hf_wbc.inference.attribute_reasons import attribute_record
    from hf_wbc.models import load_trained
    from hf_wbc.records import read_json

    records = []
    attributes = attribute_record(model)
    if attributes is not None and attributes["data"] in benchmarks:
        records.append(attributes)
    if patients is not None:
        remedy = "give a folder of `hf-wbc patients`"
        record = read_json(patients / "record.json", remedy)
        if record.get("kind") != "patients":
            raise ValueError(f"{patients} is not a result of `hf-wbc patients`; {remedy}")
        records.append(record)
    if records:  # their mistakes are reported before anything is measured
        record_entries(records, benchmarks, load_trained(model).revision)
    return records
