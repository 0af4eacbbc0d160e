"""Run all parts of the audit on one `FolderReading`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.composition import Appearance, appearances
from hf_wbc.audit.confounds import BackgroundProbe, background_probes, confound_findings
from hf_wbc.audit.embedding import DomainMixing, EmbeddingMap, domain_mixing, embed
from hf_wbc.audit.leaks import DuplicateGroups, duplicate_findings, find_duplicate_groups
from hf_wbc.audit.measure import FolderReading
from hf_wbc.audit.representation import RepresentationScores, representation_scores
from hf_wbc.preparation.scan import ProgressCallback
from hf_wbc.preparation.source import Finding, with_declaration

_ORDER = ("undeclared", "declared", "expected")


@dataclass(frozen=True, eq=False)
class AuditView:
    """The cells in one feature space before any training."""

    name: str
    map: EmbeddingMap
    classes: DomainMixing | None
    """How often a cell's neighbors are of its class; None without two classes."""
    domains: DomainMixing | None
    """How often they are of its domain; None for one domain."""
    representation: RepresentationScores | None
    """What the features hold of class and laboratory; None for one domain."""


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit."""

    reading: FolderReading
    duplicates: DuplicateGroups
    findings: tuple[Finding, ...]
    """Undeclared findings first."""
    probes: dict[str, BackgroundProbe]
    appearances: tuple[Appearance, ...]
    views: tuple[AuditView, ...]

    @property
    def undeclared(self) -> tuple[Finding, ...]:
        """Findings that no source declares; CI should fail on these."""
        return tuple(finding for finding in self.findings if finding.status == "undeclared")


def run_audit(
    reading: FolderReading,
    features: Mapping[str, NDArray[np.float32]],
    *,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> Audit:
    """Run the audit.

    Args:
        reading: Measurements of N cells.
        features: Further feature spaces for maps, (N, d) by name.
        seed: Seed of the maps and of the background probes.
        on_progress: Called with the stage, the work done and its total.
    """
    on_progress = on_progress or (lambda stage, done, total: None)
    on_progress("repeats", 0, 1)
    duplicates = find_duplicate_groups(reading)
    on_progress("repeats", 1, 1)
    on_progress("background", 0, 1)
    probes = background_probes(reading, duplicates, seed)
    on_progress("background", 1, 1)
    pixels = reading.small.reshape(len(reading), -1).astype(np.float32)
    views = []
    for number, (name, values) in enumerate({"pixels": pixels, **features}.items()):
        on_progress("map", number, 1 + len(features))
        if drawn := embed(values, seed):
            views.append(_view(reading, name, values, drawn, seed))
    on_progress("map", 1 + len(features), 1 + len(features))
    declarations = {folder.name: folder.declared for folder in reading.folders}
    found = [*duplicate_findings(reading, duplicates), *confound_findings(reading, probes)]
    findings = [with_declaration(finding, declarations) for finding in found]
    return Audit(
        reading=reading,
        duplicates=duplicates,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.status))),
        probes=probes,
        appearances=tuple(appearances(reading)),
        views=tuple(views),
    )


def _view(
    reading: FolderReading,
    name: str,
    features: NDArray[np.float32],
    drawn: EmbeddingMap,
    seed: int,
) -> AuditView:
    groups = [
        f"{folder}/{group or f'row {row}'}"
        for row, (folder, group) in enumerate(zip(reading.folder, reading.groups, strict=True))
    ]
    return AuditView(
        name=name,
        map=drawn,
        classes=domain_mixing(drawn.neighbors, reading.labels),
        domains=domain_mixing(drawn.neighbors, reading.folder),
        representation=representation_scores(
            features, reading.labels, reading.folder, groups, seed
        ),
    )
