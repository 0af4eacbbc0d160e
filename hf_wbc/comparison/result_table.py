"""Rows of a comparison: mean scores over runs that differ only in the seed.

Rows are comparable if they share an `EvalSetting`: the same images, scored over the same classes.
Runs with different test sets, merged classes or selected classes have different settings, whatever
their names are.

If the runs of a method on a network and direction use different settings, such as several learning
rates or versions of the data, each variant is a row of its own, named by what differs, so that no
mean hides a difference.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from hf_wbc.comparison.collect import Run
from hf_wbc.evaluation.metrics import consequence_scores, merged_labels
from hf_wbc.taxonomy import class_id

_ELSEWHERE = {
    "sources", "target", "held_out", "method", "model", "seed", "selection", "merge", "classes",
    "inputs", "trainable", "target_labels", "target_label_budget",
}  # fmt: skip
"""Options that have a column of their own in a row."""
_WITHOUT_EFFECT = {"oracle", "allow_unscaled", "allow_single"}
"""Options that change what is recorded or rejected, but not the weights."""
_SHOWN_DIGITS = 8


def decisions(run: Run) -> dict[str, Any]:
    """Return every option that determines the result and has no column of its own, by name."""
    found: dict[str, Any] = {}
    for name, value in run.config.flat().items():
        if name in _ELSEWHERE or name in _WITHOUT_EFFECT:
            continue
        if name == "method_options":
            found |= value
        elif isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    found["processes"] = run.record["machine"]["num_processes"]
    found["weights"] = _weights(run)
    if (labels := run.record.get("target_labels")) is not None:
        found["labels"] = f"{labels['strategy']} {_short(labels['digest'])}"
    else:
        found.pop("target_label_weight", None)
    for role in ("sources", "target", "held_out"):
        for domain in run.record[role]:
            prints = [domain["train"], domain["validation"]]
            found[f"{domain['name']} data"] = " ".join(map(_short, prints))
    return found


def variants(runs: Sequence[Run]) -> list[str]:
    """Return, for each run, the options in which the runs differ, with their values.

    The text is empty if no option differs.
    """
    found = [decisions(run) for run in runs]
    names = {name: None for each in found for name in each}
    differing = [name for name in names if len({repr(each.get(name)) for each in found}) > 1]
    return [
        ", ".join(f"{name} {_text(each[name])}" for name in differing if name in each)
        for each in found
    ]


def trained(run: Run) -> str:
    """Return how the network was trained: full, lora, frozen, or features (embedded once)."""
    return "features" if run.config.model.inputs == "features" else run.config.model.trainable


def prefer_with_oracle(runs: Sequence[Run]) -> list[Run]:
    """Return one run per seed, sorted by seed; prefer the one with oracle scores."""
    ordered = sorted(runs, key=lambda run: (run.seed, run.config.eval.oracle, run.name))
    return list({run.seed: run for run in ordered}.values())


def _weights(run: Run) -> str:
    """Return the version of the initial weights; random weights differ only by the seed."""
    model = run.record["model"]
    if run.config.model.from_scratch:
        return f"{model['num_parameters']:,} random"
    return _short(model["revision"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(fingerprint: str | None) -> str:
    """Return a prefix of a fingerprint that is long enough to be unique."""
    return str(fingerprint).removeprefix("sha256:")[:_SHOWN_DIGITS]


SPLITS = ("test", "transductive", "validation")
_ROLES = ("target", "source", "held out")
_PARTS = {"transductive": ("train", "validation", "test")}
Exposed = Literal["yes", "maybe", "no"]
Scored = tuple[Run, Mapping[str, Any]]


@dataclass(frozen=True, order=True)
class EvalSetting:
    """Images of one domain, scored over the same classes, by models trained in one direction."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    held_out: tuple[str, ...]
    domain: str
    """Domain of the scored images."""
    role: str
    """Role of that domain: target, source or held out."""
    split: str
    """test, validation, or transductive: all images of a target, which adaptation and selection
    used too."""
    images: str
    """Fingerprint of the scored images."""
    num_images: int
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    """Requested classes; empty means those that occur."""
    num_classes: int
    num_target_labels: int = 0
    """Labels of target images that the models were trained on; with any, they are compared among
    themselves only."""

    @property
    def is_headline(self) -> bool:
        """Whether this is the main result of the run.

        That is the test images of a target, or of a source if there is no target.
        """
        return self.split == "test" and self.role == ("target" if self.targets else "source")

    @property
    def direction(self) -> str:
        """The direction as `a + b -> c`, or `a` without a target."""
        start = " + ".join(self.sources)
        start += f" (held out: {' + '.join(self.held_out)})" if self.held_out else ""
        if not self.targets:
            return start
        labels = f" with {self.num_target_labels} labels" if self.num_target_labels else ""
        return f"{start} -> {' + '.join(self.targets)}{labels}"


@dataclass(frozen=True)
class ResultRow:
    """Mean scores over the seeds of one method on one network and evaluation setting."""

    setting: EvalSetting
    method: str
    variant: str
    """Options that distinguish this row from others of the method; empty if none differs."""
    network: str
    trained: str
    """How the network was trained: full, lora, frozen, or features (embedded once)."""
    rule: str
    """Selection rule that selected the weights."""
    sees: str
    """What that rule sees of the target: no target, unlabeled target, target labels."""
    macro_f1: float
    spread: float | None
    """Standard deviation of macro-F1 over seeds; None for a single seed."""
    low: float
    """Lower end of the 95 % interval, from a bootstrap over images."""
    high: float
    accuracy: float
    balanced_accuracy: float
    worst_class: str
    """Class with the lowest mean F1."""
    worst_f1: float
    lineage_errors: Mapping[str, float]
    """Fractions of the images: one_step, same_lineage, cross_lineage."""
    consequences: Mapping[str, float]
    """Fractions of the images: minor, serious, critical (`taxonomy.Consequence`)."""
    missed_blasts: float | None
    """Fraction of the blasts and promyelocytes called anything else; None without any."""
    seeds: tuple[int, ...]
    exposed: Exposed
    """Whether the backbone has seen a domain of the direction in pre-training; "maybe" if the
    record does not tell."""
    hours: float
    """Total hours of all seeds."""
    images_per_s: float
    peak_memory_bytes: int
    """Maximum over the seeds."""
    device: str
    runs: tuple[Run, ...]
    """Runs sorted by seed."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Source domains."""
        return self.setting.sources

    @property
    def targets(self) -> tuple[str, ...]:
        """Target domains."""
        return self.setting.targets

    @property
    def domain(self) -> str:
        """The scored domain."""
        return self.setting.domain

    @property
    def role(self) -> str:
        """Role of the scored domain: source, target or held out."""
        return self.setting.role

    @property
    def split(self) -> str:
        """The scored split."""
        return self.setting.split

    @property
    def num_classes(self) -> int:
        """Number of classes scored."""
        return self.setting.num_classes

    @property
    def name(self) -> str:
        """Method with the variant that distinguishes this row."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def backbone(self) -> str:
        """Network and how it was trained."""
        return f"{self.network}, {self.trained}"

    @property
    def lineage_error(self) -> float:
        """Fraction of images predicted as a cell of another lineage.

        Errors within a lineage are a matter of degree on which experts also differ; errors across
        lineages are not.
        """
        return self.lineage_errors["cross_lineage"]


def result_rows(runs: Sequence[Run]) -> list[ResultRow]:
    """Return one row per method, network, direction, scored domain and split, and selection rule.

    Rows are sorted by evaluation setting, headline settings first, then by macro-F1, highest first.
    """
    groups: dict[tuple[Any, ...], list[Scored]] = {}
    for run, variant in _with_variants(runs):
        for setting, scores in eval_settings(run):
            classes = tuple(scores["per_class"])
            key = (setting, run.network, trained(run), run.method, variant, run.rule, classes)
            groups.setdefault(key, []).append((run, scores))
    found = [_row(key[0], key[4], scored) for key, scored in groups.items()]
    return sorted(found, key=_order)


def eval_settings(run: Run) -> Iterator[tuple[EvalSetting, Mapping[str, Any]]]:
    """Yield every evaluation setting that a run was scored on, with the scores."""
    held_out = tuple(domain["name"] for domain in run.record["held_out"])
    facts = {
        domain["name"]: domain
        for role in ("sources", "target", "held_out")
        for domain in run.record[role]
    }
    for domain, entry in run.record["results"].items():
        for split in SPLITS:
            scores = entry.get(split)
            if scores is not None:
                parts = [facts[domain][part] for part in _PARTS.get(split, (split,))]
                yield (
                    EvalSetting(
                        sources=run.sources,
                        targets=run.targets,
                        held_out=held_out,
                        domain=domain,
                        role=entry["role"],
                        split=split,
                        images="+".join(parts),
                        num_images=scores["num_images"],
                        merge=tuple(scores["merge"]),
                        classes=tuple(scores["classes"]),
                        num_classes=scores["num_classes"],
                        num_target_labels=num_target_labels(run),
                    ),
                    scores,
                )


def num_target_labels(run: Run) -> int:
    """Return the number of target images whose labels a run was trained on."""
    labels = run.record.get("target_labels")
    return 0 if labels is None else int(labels["num"])


def exposed(run: Run) -> Exposed:
    """Return whether the backbone has seen images of the direction's domains in pre-training."""
    if {*run.sources, *run.targets} & set(run.exposed_to):
        return "yes"
    return "maybe" if run.exposure.endswith("unknown") else "no"


def _with_variants(runs: Sequence[Run]) -> Iterator[tuple[Run, str]]:
    """Yield each run with its variant among the runs of its method, network, direction and rule."""

    def key(run: Run) -> tuple[Any, ...]:
        held_out = tuple(domain["name"] for domain in run.record["held_out"])
        return (
            run.sources, run.targets, held_out, run.network, trained(run), run.method, run.rule,
            num_target_labels(run),
        )  # fmt: skip

    for _, group in groupby(sorted(runs, key=key), key):
        alike = list(group)
        yield from zip(alike, variants(alike), strict=True)


def _row(setting: EvalSetting, variant: str, found: Sequence[Scored]) -> ResultRow:
    runs = prefer_with_oracle([run for run, _ in found])
    by_name = {run.name: scores for run, scores in found}
    scores = [by_name[run.name] for run in runs]
    values = [each["macro_f1"] for each in scores]
    f1 = {
        name: fmean(each["per_class"][name]["f1"] for each in scores)
        for name in scores[0]["per_class"]
    }
    worst = min(f1, key=lambda name: f1[name])
    graded = [_graded(each) for each in scores]
    missed = [each["missed_blasts"] for each in graded if each["missed_blasts"]["of"]]
    costs = [run.record["cost"] for run in runs]
    return ResultRow(
        setting=setting,
        method=runs[0].method,
        variant=variant,
        network=runs[0].network,
        trained=trained(runs[0]),
        rule=runs[0].rule,
        sees=runs[0].record["selection"]["sees"],
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
        consequences={
            kind: fmean(each[kind] for each in graded) for kind in ("minor", "serious", "critical")
        },
        missed_blasts=fmean(each["num"] / each["of"] for each in missed) if missed else None,
        seeds=tuple(run.seed for run in runs),
        exposed=exposed(runs[0]),
        hours=sum(cost["elapsed_s"] for cost in costs) / 3600,
        images_per_s=fmean(cost["images_per_s"] for cost in costs),
        peak_memory_bytes=max(cost["peak_memory_bytes"] for cost in costs),
        device=", ".join(sorted({run.record["machine"]["device"] for run in runs})),
        runs=tuple(runs),
    )


def _graded(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Grade the errors by consequence, also in records of versions that did not."""
    into = merged_labels(scores["merge"])
    members = [np.flatnonzero(into == class_id(name)).tolist() for name in scores["class_names"]]
    return consequence_scores(np.array(scores["confusion"]), members)


def _order(row: ResultRow) -> tuple[Any, ...]:
    setting = row.setting
    return (
        not setting.is_headline, setting.sources, setting.targets, _ROLES.index(setting.role),
        SPLITS.index(setting.split), setting, -row.macro_f1, row.network, row.trained, row.name,
        row.rule,
    )  # fmt: skip
