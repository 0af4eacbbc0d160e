"""The tables of a model card; every number is from the run's record."""

from collections.abc import Mapping
from typing import Any

from hf_wbc.comparison.document import Strong, Table, three
from hf_wbc.data.schema import SPLITS
from hf_wbc.hub.model_words import SPLIT_WORDS, Record, part_of, scored
from hf_wbc.hub.places import ROLES, dataset_place
from hf_wbc.prepare.source import Source
from hf_wbc.taxonomy import NAMES


def score_table(record: Record) -> Table:
    """A row for each domain and split: macro-F1 with its interval and number of classes."""
    headings = (
        "images of", "which", "macro-F1 [95 %]", "classes", "accuracy", "balanced accuracy",
        "other lineage", "images",
    )  # fmt: skip
    cells = []
    for domain, split, scores in scored(record):
        low, high = scores["intervals"]["macro_f1"]
        macro = f"{three(scores['macro_f1'])} [{three(low)}, {three(high)}]"
        role = record["results"][domain]["role"]
        cells.append(
            (
                f"{domain} ({role})",
                SPLIT_WORDS[split],
                Strong(macro) if split == "test" else macro,
                str(scores["num_classes"]),
                three(scores["accuracy"]),
                three(scores["balanced_accuracy"]),
                three(scores["lineage_errors"]["cross_lineage"]),
                f"{scores['num_images']:,}",
            )
        )
    return Table(headings, tuple(cells), 2)


def class_table(record: Record) -> Table:
    """F1 of each class on the test images of each domain, with its number of images."""
    tested = [(domain, scores) for domain, split, scores in scored(record) if split == "test"]
    names = [name for name in NAMES if any(name in scores["per_class"] for _, scores in tested)]
    cells = tuple((name, *(_f1(scores, name) for _, scores in tested)) for name in names)
    return Table(("F1 (images)", *(domain for domain, _ in tested)), cells)


def _f1(scores: Mapping[str, Any], name: str) -> str:
    each = scores["per_class"].get(name)
    return f"{three(each['f1'])} ({each['support']:,})" if each else "–"


def data_table(record: Record, sources: Mapping[str, Source]) -> Table:
    """Each domain with its revision, the fingerprints of its rows, scale and licence."""
    headings = ("data", "part", "revision", "fingerprints", "um per px", "licence", "images")
    cells = tuple(
        (
            domain["name"],
            part_of(record, role),
            f"`{dataset_place(domain)}`" if domain["revision"] else "a folder",
            " ".join(f"`{domain[split][:8]}`" for split in SPLITS),
            "unknown" if domain["um_per_px"] is None else f"{domain['um_per_px']:.6g}",
            sources[domain["name"]].licence if domain["name"] in sources else "see its own card",
            " / ".join(
                f"{domain['num_images'][split]:,}" for split in ("train", "validation", "test")
            ),
        )
        for role in ROLES
        for domain in record[role]
    )
    return Table(headings, cells, 6)


def belief_table(record: Record) -> Table:
    """Calibration and sets on the test images of each domain."""
    headings = (
        "test images of", "calibration error", "before", "confidence − accuracy",
        "sets of 90 % hold the class", "classes a set", "turned away",
    )  # fmt: skip
    cells = []
    for domain, _, _ in (each for each in scored(record) if each[1] == "test"):
        found = record["calibration"]["domains"].get(domain, {}).get("test")
        if found is None:
            continue
        sets = found["conformal"]["marginal"]
        cells.append(
            (
                domain,
                three(found["ece"]["after"]),
                three(found["ece"].get("before")),
                f"{found['overconfidence']:+.3f}".replace("-", "−"),
                three(sets["coverage"]),
                f"{sets['mean_size']:.2f}",
                three(found["rejected"]),
            )
        )
    return Table(headings, tuple(cells))
