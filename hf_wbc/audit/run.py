"""All questions of the audit, asked of one reading."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.composition import Appearance, appearances
from hf_wbc.audit.confounds import Guess, ask_background, confound_findings
from hf_wbc.audit.embedding import Map, Mixing, embed, mixing
from hf_wbc.audit.leaks import Repeats, find_repeats, repeat_findings
from hf_wbc.audit.measure import Reading
from hf_wbc.prepare.scan import Report
from hf_wbc.prepare.source import Finding, with_declaration

_ORDER = ("undeclared", "declared", "expected")


@dataclass(frozen=True, eq=False)
class View:
    """The cells as one kind of features shows them before any training."""

    name: str
    map: Map
    classes: Mixing | None
    """How much a cell's neighbours are of its class; None without two classes."""
    domains: Mixing | None
    """How much they are of its domain; None for one domain."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found."""

    reading: Reading
    repeats: Repeats
    findings: tuple[Finding, ...]
    """News first."""
    guesses: dict[str, Guess]
    appearances: tuple[Appearance, ...]
    views: tuple[View, ...]

    @property
    def undeclared(self) -> tuple[Finding, ...]:
        """Findings that no source declares: what a continuous integration should stop at."""
        return tuple(finding for finding in self.findings if finding.status == "undeclared")


def answer(
    reading: Reading,
    features: Mapping[str, NDArray[np.float32]],
    *,
    seed: int = 0,
    report: Report | None = None,
) -> Audit:
    """Ask everything; `features` are further views of the N cells, (N, d) each, by their name."""
    report = report or (lambda stage, done, total: None)
    report("repeats", 0, 1)
    repeats = find_repeats(reading)
    report("repeats", 1, 1)
    report("background", 0, 1)
    guesses = ask_background(reading, repeats, seed)
    report("background", 1, 1)
    pixels = reading.small.reshape(len(reading), -1).astype(np.float32)
    views = []
    for number, (name, values) in enumerate({"pixels": pixels, **features}.items()):
        report("map", number, 1 + len(features))
        if drawn := embed(values, seed):
            views.append(_view(reading, name, drawn))
    report("map", 1 + len(features), 1 + len(features))
    declarations = {folder.name: folder.declared for folder in reading.folders}
    found = [*repeat_findings(reading, repeats), *confound_findings(reading, guesses)]
    findings = [with_declaration(finding, declarations) for finding in found]
    return Audit(
        reading=reading,
        repeats=repeats,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.status))),
        guesses=guesses,
        appearances=tuple(appearances(reading)),
        views=tuple(views),
    )


def _view(reading: Reading, name: str, drawn: Map) -> View:
    return View(
        name=name,
        map=drawn,
        classes=mixing(drawn.neighbours, reading.labels),
        domains=mixing(drawn.neighbours, reading.folder),
    )
