"""Entries of result files from the records of a model: scores, stress, features, patients.

A dataset's benchmark has one task for macro-F1 on its test split, and one for each further measure;
the id of such a task is that of the dataset's first task and a measure, such as
`acevedo_20__corruptions`. What a number needs to be read is in the notes, in fixed phrases that
`hf_wbc.hub.leaderboard` reads again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hf_wbc.hub.benchmark import SEPARATOR, Benchmark, framework_entry, result_entry

__all__ = ["HOME", "MEASURES", "Measure", "record_entries", "split_task"]

HOME = "images of this laboratory were in training"
"""Note of a score in a laboratory that the model was trained on."""
PATIENT_HEAD = "mean"
"""Head of `hf-wbc patients` whose AUROC is submitted; chosen before any result."""


@dataclass(frozen=True)
class Measure:
    """A measure of the leaderboard besides macro-F1 in each laboratory."""

    title: str
    explanation: str


MEASURES = {
    "corruptions": Measure(
        "Corruptions", "mean macro-F1 over ten corruptions at four severities (`hf-wbc stress`)"
    ),
    "robustness_index": Measure(
        "Robustness index",
        "among the nearest neighbors in the features, same class from another laboratory against "
        "another class from the same one; above .5 the class outweighs the laboratory "
        "(PathoROB, arXiv:2507.17845)",
    ),
    "attributes": Measure(
        "Attributes", "mean F1 of morphological attributes such as granules (`hf-wbc attributes`)"
    ),
    "patients": Measure(
        "Patients",
        "AUROC of a patient's label, from the mean of the features of the patient's cells, "
        "cross-validated over patients (`hf-wbc patients`)",
    ),
}
"""Measures by the last part of their task's id."""


def split_task(task_id: str) -> tuple[str, str]:
    """Split a task's id into the dataset's name and the measure; "" is macro-F1.

    >>> split_task("acevedo_20__corruptions"), split_task("acevedo_20")
    (('acevedo_20', 'corruptions'), ('acevedo_20', ''))
    """
    name, _, measure = task_id.rpartition(SEPARATOR)
    return (name, measure) if name and measure in MEASURES else (task_id, "")


def record_entries(
    records: Sequence[Mapping[str, Any]],
    benchmarks: Mapping[str, Benchmark],
    revision: str,
    date: str | None = None,
) -> list[dict[str, Any]]:
    """Return the entries of a model's result file.

    Args:
        records: Records of the kinds evaluation, stress, representation, attributes and patients.
        benchmarks: The datasets by name of the domain.
        revision: Digest of the model's weights.
        date: ISO date of the measurements.

    Raises:
        ValueError: If a record is of another kind, model, dataset, commit or split.
    """
    entries = []
    for record in records:
        kind = str(record.get("kind"))
        if kind not in _READERS:
            raise ValueError(
                f"a record of the kind {kind!r} cannot be submitted; known kinds are "
                f"{', '.join(_READERS)}"
            )
        try:
            entries.append(_entry(record, benchmarks, revision, date))
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f"a record of the kind {kind} is damaged ({error!r}); measure again"
            ) from error
    return entries


def _entry(
    record: Mapping[str, Any],
    benchmarks: Mapping[str, Benchmark],
    revision: str,
    date: str | None,
) -> dict[str, Any]:
    kind = record["kind"]
    if (own := record["model"]["revision"]) != revision:
        raise ValueError(
            f"a record of the kind {kind} is of a model with the digest {own}, and this model "
            f"has {revision}; measure this model"
        )
    names = _datasets(record)
    if unknown := [name for name in names if name not in benchmarks]:
        raise ValueError(
            f"a record of the kind {kind} is of {', '.join(unknown)}, which is none of the "
            f"datasets {', '.join(benchmarks)}"
        )
    return _READERS[kind](benchmarks[names[0]], record, date)


def _datasets(record: Mapping[str, Any]) -> list[str]:
    if record["kind"] == "representation":
        return [str(each) for each in record["datasets"]]
    data = record["data"]
    return [str(data["name"]) if isinstance(data, Mapping) else str(data)]


def _evaluation(
    benchmark: Benchmark, record: Mapping[str, Any], date: str | None
) -> dict[str, Any]:
    is_home = record["data"]["name"] in record["model"]["exposed_to"]
    if record["splits"] != ["test"] and is_home:
        raise ValueError(f"{record['data']['name']} was in training: score its test split only")
    if "neighbors" in record:
        raise ValueError(
            "the evaluation is of a vote of reference cells (--neighbors), which the model does "
            "not compute; evaluate the model without it"
        )
    if record["data"]["revision"] != benchmark.revision:
        raise ValueError(
            f"the evaluation is of {record['data']['ref']} at {record['data']['revision']}, and "
            f"the benchmark is at {benchmark.revision}; evaluate the model again"
        )
    remarks = [HOME] if is_home else []
    if record["splits"] != ["test"]:
        remarks.append(f"splits {', '.join(record['splits'])}")
    return result_entry(benchmark, record["scores"], date=date, remarks=remarks)


def _stress(benchmark: Benchmark, record: Mapping[str, Any], date: str | None) -> dict[str, Any]:
    if record["data"]["split"] != "test":
        raise ValueError("only a stress test of the test split can be submitted")
    summary, worst = record["summary"], record["summary"]["worst_corruption"]
    notes = [
        f"{record['data']['num_cells']} images, {len(record['curves'])} corruptions, 4 severities",
        f"clean {record['clean']['macro_f1']:.3f}",
        f"worst {worst['name']} {worst['macro_f1']:.3f}",
    ]
    return framework_entry(benchmark, "corruptions", summary["macro_f1"], notes, date)


def _representation(
    benchmark: Benchmark, record: Mapping[str, Any], date: str | None
) -> dict[str, Any]:
    index = record["index"]
    notes = [
        f"{record['num_cells']} images of {', '.join(record['datasets'])}",
        f"{index['k']} neighbors, {index['support']:.0%} of the cells have informative ones",
    ]
    if record["merge"]:
        notes.append(f"merged {', '.join(record['merge'])}")
    return framework_entry(benchmark, "robustness_index", index["value"], notes, date)


def _attributes(
    benchmark: Benchmark, record: Mapping[str, Any], date: str | None
) -> dict[str, Any]:
    notes = [f"{len(record['f1'])} attributes, {record['num_test']} images"]
    if agreement := record["agreement"]:
        notes.append(f"annotators agree to {fmean(agreement.values()):.3f}")
        notes.append(f"reliable: {', '.join(record['reliable']) or 'none'}")
    return framework_entry(benchmark, "attributes", fmean(record["f1"].values()), notes, date)


def _patients(benchmark: Benchmark, record: Mapping[str, Any], date: str | None) -> dict[str, Any]:
    found = record["heads"][PATIENT_HEAD]
    low, high = found["intervals"]["auroc"]
    notes = [
        f"{record['num_patients']} patients, {found['num_folds']} folds",
        f"95 % interval {low:.3f} to {high:.3f}",
    ]
    notes += [
        f"{head} head: AUROC {other['scores']['auroc']:.3f}"
        for head, other in record["heads"].items()
        if head != PATIENT_HEAD
    ]
    return framework_entry(benchmark, "patients", found["scores"]["auroc"], notes, date)


_READERS = {
    "evaluation": _evaluation,
    "stress": _stress,
    "representation": _representation,
    "attributes": _attributes,
    "patients": _patients,
}
