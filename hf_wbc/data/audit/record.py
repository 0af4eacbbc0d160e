"""The audit as JSON, for machines: every number of the page and every image of every finding."""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from hf_wbc import __version__
from hf_wbc.data.audit.answer import Audit
from hf_wbc.data.audit.classes import by_domain, class_counts, prior_distances
from hf_wbc.data.audit.read import Reading
from hf_wbc.data.audit.repeats import shared_between
from hf_wbc.data.schema import SPLITS
from hf_wbc.prepare.source import KINDS
from hf_wbc.taxonomy import NAMES

RECORD_VERSION = 1
_LIBRARIES = ("numpy", "pillow", "scikit-learn", "umap-learn")


def to_record(audit: Audit) -> dict[str, Any]:
    """Plain values; `undeclared` says how many findings stop a continuous integration."""
    reading = audit.reading
    return {
        "version": RECORD_VERSION,
        "undeclared": len(audit.undeclared),
        "folders": [
            {
                "path": folder.path,
                "domain": folder.name,
                "config": folder.config,
                "um_per_px": folder.um_per_px,
                "num_images": {split.split: len(split) for split in folder.splits},
                "fingerprints": {split.split: split.fingerprint for split in folder.splits},
                "declared": folder.declared,
            }
            for folder in reading.folders
        ],
        "findings": [
            {**asdict(finding), "rows": [named(reading, rows) for rows in finding.rows]}
            for finding in audit.findings
        ],
        "not_found": not_found(audit),
        "classes": by_domain(reading),
        "splits": {
            folder.name: {
                split: dict(zip(NAMES, of, strict=True))
                for split, of in zip(SPLITS, counts, strict=True)
            }
            for folder, counts in zip(reading.folders, class_counts(reading).tolist(), strict=True)
        },
        "class_share_distances": [
            {"domains": list(pair), "total_variation": distance}
            for pair, distance in prior_distances(reading).items()
        ],
        "shared": [
            {
                "domains": list(shared.domains),
                "identical": len(shared.identical),
                "overlapping": len(shared.overlapping),
            }
            for shared in shared_between(reading, audit.repeats)
        ],
        "appearance": [asdict(appearance) for appearance in audit.appearances],
        "background": {
            question: {**asdict(guess), "gives_away": guess.gives_away}
            for question, guess in audit.guesses.items()
        },
        "neighbours": {
            view.name: {
                "class": view.classes and asdict(view.classes),
                "domain": view.domains and asdict(view.domains),
            }
            for view in audit.views
        },
        "versions": {"hf_wbc": __version__} | {name: version(name) for name in _LIBRARIES},
    }


def not_found(audit: Audit) -> list[str]:
    """Kinds of findings that were looked for in vain; not those that could not be looked for."""
    reading = audit.reading
    has_labels = bool((reading.labels >= 0).any())
    can_be = {
        "two_labels": has_labels,
        "class_missing_in_split": has_labels,
        "group_across_splits": any(group is not None for group in reading.groups),
        "shared_between_datasets": len(reading.folders) > 1,
        "frame_sizes": any(folder.um_per_px is not None for folder in reading.folders),
        "background_class": any(question.startswith("class of") for question in audit.guesses),
    }
    found = {finding.kind for finding in audit.findings}
    return [kind for kind in KINDS if kind not in found and can_be.get(kind, True)]


def named(reading: Reading, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Rows as people find them again."""
    return [
        {
            "domain": reading.domain(row),
            "split": SPLITS[reading.split[row]],
            "image_id": reading.image_ids[row],
            "label": NAMES[reading.labels[row]] if reading.labels[row] >= 0 else None,
        }
        for row in rows
    ]
