"""The rows of a comparison: what runs that differ in nothing but the seed scored, on average."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from hf_wbc.study.collect import Run

SPLITS = ("validation", "test", "transductive")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """Runs of one method, network and direction, over seeds, scored on one set of images."""

    method: str
    network: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    domain: str
    """Where the scored images are from."""
    role: str
    """Of that domain: source, target or held_out."""
    split: str
    """validation, test, or transductive: all images of a target."""
    rule: str
    """The selection rule that picked the weights."""
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    num_classes: int
    num_images: int
    macro_f1: float
    """Mean over seeds, as every score here."""
    spread: float | None
    """Standard deviation of macro-F1 over seeds; None of one seed."""
    low: float
    """End of the 95 % bootstrap interval over images, mean over seeds."""
    high: float
    accuracy: float
    balanced_accuracy: float
    worst_class: str
    """The class with the lowest F1, mean over seeds."""
    worst_f1: float
    lineage_errors: Mapping[str, float]
    """Fractions of the images: one_step, same_lineage, cross_lineage."""
    seeds: tuple[int, ...]
    exposed: str
    """"yes" where the backbone has seen a domain of the direction, "maybe" where nobody knows."""
    hours: float
    """Of all seeds together."""
    images_per_s: float
    peak_memory_bytes: int
    """The most of any seed."""
    runs: tuple[Run, ...]


def rows(runs: Sequence[Run]) -> list[Row]:
    """One row per method, network, direction, scored domain and split, and rule."""
    groups: dict[tuple[Any, ...], list[tuple[Run, str, Mapping[str, Any]]]] = {}
    for run in runs:
        for domain, role, split, scores in scored(run):
            key = (
                run.sources, run.targets, domain, role, split, run.rule, run.network, run.method,
                tuple(scores["merge"]), tuple(scores["classes"]), scores["num_classes"],
                scores["num_images"],
            )  # fmt: skip
            groups.setdefault(key, []).append((run, role, scores))
    return [_row(key, found) for key, found in sorted(groups.items(), key=lambda item: item[0])]


def scored(run: Run) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(domain, role, split, scores) of all that the run was scored on."""
    for domain, entry in run.record["results"].items():
        for split in SPLITS:
            if entry.get(split) is not None:
                yield domain, entry["role"], split, entry[split]


def _row(key: tuple[Any, ...], found: Sequence[tuple[Run, str, Mapping[str, Any]]]) -> Row:
    (sources, targets, domain, role, split, rule, network, method, merge, classes, num_classes,
     num_images) = key  # fmt: skip
    runs, scores = [run for run, _, _ in found], [scores for _, _, scores in found]
    values = [each["macro_f1"] for each in scores]
    f1 = {
        name: fmean(each["per_class"][name]["f1"] for each in scores)
        for name in scores[0]["per_class"]
    }
    worst = min(f1, key=lambda name: f1[name])
    costs = [run.record["cost"] for run in runs]
    return Row(
        method=method,
        network=network,
        sources=sources,
        targets=targets,
        domain=domain,
        role=role,
        split=split,
        rule=rule,
        merge=merge,
        classes=classes,
        num_classes=num_classes,
        num_images=num_images,
        macro_f1=fmean(values),
        spread=stdev(values) if len(values) > 1 else None,
        low=fmean(each["intervals"]["macro_f1"][0] for each in scores),
        high=fmean(each["intervals"]["macro_f1"][1] for each in scores),
        accuracy=fmean(each["accuracy"] for each in scores),
        balanced_accuracy=fmean(each["balanced_accuracy"] for each in scores),
        worst_class=worst,
        worst_f1=f1[worst],
        lineage_errors={
            kind: fmean(each["lineage_errors"][kind] for each in scores)
            for kind in scores[0]["lineage_errors"]
        },
        seeds=tuple(sorted(run.seed for run in runs)),
        exposed=exposed(runs[0], domain),
        hours=sum(cost["elapsed_s"] for cost in costs) / 3600,
        images_per_s=fmean(cost["images_per_s"] for cost in costs),
        peak_memory_bytes=max(cost["peak_memory_bytes"] for cost in costs),
        runs=tuple(runs),
    )


def exposed(run: Run, domain: str) -> str:
    """Whether the backbone has seen images of the scored domain or of the sources before."""
    if {domain, *run.sources, *run.targets} & set(run.exposed_to):
        return "yes"
    return "maybe" if UNKNOWN in run.exposure else "no"
