"""All that a section shows besides its tables, made in the order of its worth while there is room.

Every section gets its most telling pictures before any gets the others, so that a page of many
directions stays small; what was left out is named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hf_wbc.plots.html import Picture, picture
from hf_wbc.study.report.feature_maps import FeatureMap, feature_map
from hf_wbc.study.report.mistakes import Suspects, label_suspects, worst_mistakes
from hf_wbc.study.report.scored_images import read_scored
from hf_wbc.study.report.section import (
    Section,
    certainty,
    class_f1,
    confusions,
    prior_shift,
    training,
)
from hf_wbc.study.report.thumbnails import Thumbnails

KINDS = (
    "F1 by class",
    "class priors",
    "reliability",
    "confusion matrices",
    "worst mistakes",
    "label suspects",
    "maps of features",
    "training curves",
)
"""In the order of their worth."""
NUM_MISTAKES = 12
NUM_SUSPECTS = 12
MAX_MAPPED = 4
"""Sections that get maps of features, which take the longest."""


@dataclass
class Exhibits:
    """What a section shows, by kind; a text in place of what could not be made."""

    of: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cells:
    """Images in a row, and why they may be missing."""

    heading: str
    cells: tuple[tuple[Any, str], ...]
    """What is said of each image, and its picture as a URI or an empty text."""
    missing: str
    facts: Any = None


def make_exhibits(sections: Sequence[Section], room: int) -> list[Exhibits]:
    """The exhibits of every section, in all at most `room` bytes."""
    found = [Exhibits() for _ in sections]
    thumbnails = Thumbnails()
    makers: tuple[Callable[[Section], Any], ...] = (
        class_f1,
        prior_shift,
        certainty,
        confusions,
        partial(_mistakes, thumbnails),
        partial(_suspects, thumbnails),
        _maps,
        training,
    )
    for kind, make in zip(KINDS, makers, strict=True):
        for place, (section, exhibits) in enumerate(zip(sections, found, strict=True)):
            if kind == "maps of features" and place >= MAX_MAPPED:
                exhibits.left_out.append(kind)
                continue
            try:
                made = make(section)
            except ValueError as error:
                exhibits.of[kind] = str(error)
                continue
            size = _size(made)
            if size > room:
                exhibits.left_out.append(kind)
                continue
            exhibits.of[kind] = made
            room -= size
    return found


def _size(made: Any) -> int:
    """Bytes of all pictures in a nest of tuples and lists."""
    if isinstance(made, Picture):
        return len(made.uri) + len(made.alt)
    if isinstance(made, Cells):
        return sum(len(uri) + 400 for _, uri in made.cells)
    return sum(_size(part) for part in made) if isinstance(made, list | tuple) else 0


def _mistakes(thumbnails: Thumbnails, section: Section) -> list[Cells]:
    """The worst of the baseline, or the first run that is drawn, and of the next one."""
    found = []
    for chosen in section.chosen[:2]:
        worst = worst_mistakes(section.scored(chosen), NUM_MISTAKES)
        ids = [mistake.image_id for mistake in worst]
        uris, missing = thumbnails.of(chosen.run, section.sheet.domain, "test", ids)
        cells = tuple((mistake, uris.get(mistake.image_id, "")) for mistake in worst)
        found.append(Cells(f"{chosen.name}, seed {chosen.run.seed}", cells, missing))
    return found


def _suspects(thumbnails: Thumbnails, section: Section) -> list[Cells]:
    """Doubtful labels of the sheet's test images and of the sources'."""
    found, sheet = [], section.sheet
    for domain in dict.fromkeys((sheet.domain, *sheet.sources)):
        suspects = _asked(section, domain)
        shown = suspects.found[:NUM_SUSPECTS] if suspects.credible else ()
        ids = [suspect.image_id for suspect in shown]
        run = section.rows[0].runs[0]
        uris, missing = thumbnails.of(run, domain, "test", ids) if ids else ({}, "")
        cells = tuple((suspect, uris.get(suspect.image_id, "")) for suspect in shown)
        found.append(Cells(domain, cells, missing, suspects))
    return found


def _asked(section: Section, domain: str) -> Suspects:
    """What all runs of a section say together of a domain's test labels."""
    sheet = section.sheet
    methods = {
        name: [read_scored(run, domain, "test", sheet.merge, sheet.classes) for run in row.runs]
        for name, row in zip(section.names, section.rows, strict=True)
    }
    return label_suspects(methods)


def _maps(section: Section) -> list[tuple[str, FeatureMap, Picture, Picture]]:
    """Before adaptation (the baseline) and after (the first run that rules chose)."""
    from hf_wbc.plots.cell_map import draw_classes_map, draw_domains_map

    shown = [section.chosen[0]]
    others = [each for each in section.chosen[1:] if not each.by_labels]
    found = []
    for chosen in shown + others[:1]:
        mapped = feature_map(chosen.run, section.sheet.merge)
        if mapped is None:
            continue
        alt = f"Map of {len(mapped.labels):,} test images by the features of {chosen.name}"
        by_class = draw_classes_map(mapped.map.xy, mapped.labels)
        by_domain = draw_domains_map(mapped.map.xy, mapped.domains, mapped.names)
        pictures = (
            picture(by_class, f"{alt}, coloured by class.", points=True),
            picture(by_domain, f"{alt}, coloured by laboratory.", points=True),
        )
        found.append((f"{chosen.name}, seed {chosen.run.seed}", mapped, *pictures))
    return found
