"""Figures of the report, by section: one section per direction and backbone.

Every section gets its most informative figures before any section gets the others, so that a page
with many directions stays small; the section names the figures that are omitted. A figure that
cannot be drawn is replaced by a sentence with the reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from hf_wbc.audit.embedding import FEWEST_CELLS
from hf_wbc.comparison.compare import Comparison, labels
from hf_wbc.comparison.report.images import (
    FeatureMap,
    ScoredImages,
    Thumbnails,
    feature_map,
    read_scored,
)
from hf_wbc.comparison.report.mistakes import (
    ChosenRuns,
    LabelSuspects,
    choose_runs,
    label_suspects,
    worst_mistakes,
)
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.evaluation.selective import risk_coverage
from hf_wbc.plots.html import Picture, picture
from hf_wbc.taxonomy import NAMES

PRIORS = {"bbse": "BBSE", "em": "EM", "rlls": "RLLS"}


@dataclass(frozen=True)
class ReportSection:
    """All rows of one evaluation setting and backbone, best first."""

    setting: EvalSetting
    backbone: str
    rows: tuple[ResultRow, ...]
    baseline: str

    @cached_property
    def chosen(self) -> list[ChosenRuns]:
        """Rows that are shown in detail."""
        return choose_runs(self.rows, self.baseline)

    @cached_property
    def names(self) -> list[str]:
        """Names of the rows."""
        return labels(self.rows)

    def scored(self, chosen: ChosenRuns, domain: str | None = None) -> ScoredImages:
        """Return the test images of a chosen run with its predictions.

        Args:
            chosen: Chosen run.
            domain: Domain of the images; by default that of the evaluation setting.
        """
        setting = self.setting
        place = setting.domain if domain is None else domain
        return read_scored(chosen.run, place, "test", setting.merge, setting.classes)


def report_sections(comparison: Comparison) -> list[ReportSection]:
    """Return a section for each headline setting and backbone, in the order of the table."""
    headline = [row for row in comparison.rows if row.setting.is_headline]
    keys = dict.fromkeys((row.setting, row.backbone) for row in headline)
    return [
        ReportSection(
            setting,
            backbone,
            tuple(row for row in headline if (row.setting, row.backbone) == (setting, backbone)),
            comparison.baseline,
        )
        for setting, backbone in keys
    ]


def class_f1(section: ReportSection) -> Picture:
    """Draw the F1 of every class by method, averaged over seeds."""
    from hf_wbc.plots.confusion import draw_class_f1

    setting, table, macro = section.setting, {}, {}
    for name, row in zip(section.names, section.rows, strict=True):
        scores = [run.record["results"][setting.domain][setting.split] for run in row.runs]
        classes = scores[0]["per_class"]
        table[name] = {
            each: float(np.mean([score["per_class"][each]["f1"] for score in scores]))
            for each in classes
        }
        macro[name] = row.macro_f1
    best = section.names[0]
    alt = (
        f"Heat map of F1 by method and class on {setting.domain}, {len(table)} methods; the "
        f"highest macro-F1 is {macro[best]:.2f} ({best})."
    )
    return picture(draw_class_f1(table, macro), alt)


def prior_shift(section: ReportSection) -> tuple[Picture, str] | None:
    """Draw the class fractions of source and target, and return the warning of the estimate.

    None if nothing was estimated.
    """
    from hf_wbc.plots.class_distribution import Estimate, draw_prior_shift

    chosen, setting = section.chosen[0], section.setting
    found = (chosen.run.record.get("label_shift") or {}).get(setting.domain)
    if not found or not any(kind in found for kind in PRIORS):
        return None
    into = merged_labels(setting.merge)
    kept = np.unique(into)

    def summed(values: Sequence[float]) -> np.ndarray:
        return np.bincount(into, np.asarray(values, float), len(NAMES))[kept]

    estimates = {
        PRIORS[kind]: Estimate(
            summed(found[kind]["priors"]),
            np.clip([summed(found[kind]["low"]), summed(found[kind]["high"])], 0, 1),
        )
        for kind in PRIORS
        if kind in found
    }
    source = summed(next(iter(found[kind] for kind in PRIORS if kind in found))["num_source"])
    entry = chosen.run.record["results"][setting.domain]
    scores = entry.get("transductive") or entry.get("test")
    true = None
    if scores is not None:
        support = {name: facts["support"] for name, facts in scores["per_class"].items()}
        true = np.array([support.get(NAMES[i], 0) for i in kept], float)
        true /= true.sum()
    names = [NAMES[i] for i in kept]
    figure = draw_prior_shift(names, source / source.sum(), true, estimates)
    alt = (
        f"Proportions of {len(names)} classes in the sources and in {setting.domain}, and their "
        f"estimates without labels by {', '.join(estimates)} from {chosen.name}."
    )
    return picture(figure, alt), str(found.get("note", ""))


def certainty(section: ReportSection) -> tuple[Picture, Picture]:
    """Draw reliability diagrams and risk-coverage curves of the chosen runs."""
    from hf_wbc.plots.calibration_curves import (
        Sureness,
        calibration_gap,
        draw_reliability,
        draw_risk_coverage,
    )

    setting = section.setting
    sets = list(dict.fromkeys((*setting.sources, setting.domain)))
    shown: dict[str, dict[str, Sureness]] = {}
    for chosen in section.chosen:
        found = {name: section.scored(chosen, name) for name in sets}
        shown[chosen.name] = {n: (i.confidence, i.right) for n, i in found.items() if i.image_ids}
    gaps = [(name, calibration_gap(*kinds[setting.domain])) for name, kinds in shown.items()]
    alt = "Reliability diagrams; mean gap between confidence and accuracy on "
    alt += f"{setting.domain}: " + ", ".join(f"{name} {gap:.2f}" for name, gap in gaps) + "."
    by_set = {
        f"{place}, test": {
            name: risk_coverage(kinds[place][0], ~kinds[place][1])
            for name, kinds in shown.items()
            if place in kinds
        }
        for place in sets
    }
    risk = "Error rate of the classified cells against their fraction, for "
    return (
        picture(draw_reliability(shown), alt),
        picture(draw_risk_coverage(by_set), risk + ", ".join(shown) + "."),
    )


def confusions(section: ReportSection) -> list[Picture]:
    """Draw the recorded confusion matrix of each chosen run."""
    from hf_wbc.plots.confusion import draw_confusion

    found = []
    for chosen in section.chosen:
        scores = chosen.run.record["results"][section.setting.domain][section.setting.split]
        title = f"{chosen.name}, seed {chosen.run.seed}"
        alt = (
            f"Confusion matrix of {title} on {section.setting.domain}: macro-F1 "
            f"{scores['macro_f1']:.2f}, accuracy {scores['accuracy']:.2f}, lowest F1 "
            f"{scores['worst_class']['f1']:.2f} for {scores['worst_class']['name']}."
        )
        found.append(picture(draw_confusion(scores, title), alt))
    return found


def training(section: ReportSection) -> Picture:
    """Draw the training curves of the chosen runs."""
    from hf_wbc.plots.training import draw_training

    runs = {
        f"{each.name}, seed {each.run.seed}": (
            each.run.record["history"],
            each.run.record["selection"]["step"],
        )
        for each in section.chosen
    }
    alt = "Losses, macro-F1 of validation images and scores without target labels by step; "
    return picture(draw_training(runs), alt + f"one row for each of {'; '.join(runs)}.")


NUM_MISTAKES = 12
NUM_SUSPECTS = 12
MAX_MAPPED = 4
"""Maximum number of sections with feature maps, which take the longest."""
MAPS = "maps of features"
TOO_LARGE = "Omitted to keep this page small; compare the runs of this direction alone to see it."
TOO_MANY = (
    "Omitted because maps take the longest: only the first {most} of the {num} directions and "
    "networks have them. Compare the runs of this one alone to see it."
)


@dataclass
class ReportImages:
    """Figures of a section by kind; a text replaces a figure that could not be made."""

    of: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why a kind is omitted, as a sentence."""


@dataclass(frozen=True)
class CellImages:
    """Row of cell images, with the reason if they are missing."""

    heading: str
    cells: tuple[tuple[Any, str], ...]
    """Caption of each image, and its data URI or an empty string."""
    missing: str
    facts: Any = None


def make_report_images(sections: Sequence[ReportSection], room: int) -> list[ReportImages]:
    """Make the figures of all sections, using at most `room` bytes in total."""
    found = [ReportImages() for _ in sections]
    thumbnails = Thumbnails()
    for kind, make in _makers(thumbnails).items():
        for place, (section, exhibits) in enumerate(zip(sections, found, strict=True)):
            if kind == MAPS and place >= MAX_MAPPED:
                exhibits.left_out[kind] = TOO_MANY.format(most=MAX_MAPPED, num=len(sections))
                continue
            try:
                made = make(section)
            except ValueError as error:
                exhibits.of[kind] = str(error)
                continue
            size = _size(made)
            if size > room:
                exhibits.left_out[kind] = TOO_LARGE
                continue
            exhibits.of[kind] = made
            room -= size
    return found


def _makers(thumbnails: Thumbnails) -> dict[str, Callable[[ReportSection], Any]]:
    """Return the function that makes each kind of figure, most important kind first."""
    return {
        "F1 by class": class_f1,
        "class priors": prior_shift,
        "reliability": certainty,
        "confusion matrices": confusions,
        "worst mistakes": partial(_mistakes, thumbnails),
        "label suspects": partial(_suspects, thumbnails),
        MAPS: _maps,
        "training curves": training,
    }


def _size(made: Any) -> int:
    """Return the size in bytes of all images in nested tuples and lists."""
    if isinstance(made, Picture):
        return len(made.uri) + len(made.alt)
    if isinstance(made, CellImages):
        return sum(len(uri) + 400 for _, uri in made.cells)
    return sum(_size(part) for part in made) if isinstance(made, list | tuple) else 0


def _mistakes(thumbnails: Thumbnails, section: ReportSection) -> list[CellImages]:
    """Return the worst errors of the first two chosen runs, usually the baseline and one other."""
    found = []
    for chosen in section.chosen[:2]:
        worst = worst_mistakes(section.scored(chosen), NUM_MISTAKES)
        ids = [mistake.image_id for mistake in worst]
        uris, missing = thumbnails.of(chosen.run, section.setting.domain, "test", ids)
        cells = tuple((mistake, uris.get(mistake.image_id, "")) for mistake in worst)
        found.append(CellImages(f"{chosen.name}, seed {chosen.run.seed}", cells, missing))
    return found


def _suspects(thumbnails: Thumbnails, section: ReportSection) -> list[CellImages]:
    """Return suspected label errors in the test images of the setting and of the sources."""
    found, setting = [], section.setting
    for domain in dict.fromkeys((setting.domain, *setting.sources)):
        suspects = _label_suspects(section, domain)
        shown = suspects.found[:NUM_SUSPECTS] if suspects.credible else ()
        ids = [suspect.image_id for suspect in shown]
        run = section.rows[0].runs[0]
        uris, missing = thumbnails.of(run, domain, "test", ids) if ids else ({}, "")
        cells = tuple((suspect, uris.get(suspect.image_id, "")) for suspect in shown)
        found.append(CellImages(domain, cells, missing, suspects))
    return found


def _label_suspects(section: ReportSection, domain: str) -> LabelSuspects:
    """Return the suspected label errors of a domain according to all runs of a section."""
    setting = section.setting
    methods = {
        name: [read_scored(run, domain, "test", setting.merge, setting.classes) for run in row.runs]
        for name, row in zip(section.names, section.rows, strict=True)
    }
    return label_suspects(methods)


def _maps(section: ReportSection) -> list[tuple[str, FeatureMap, Picture, Picture]]:
    """Map the features before (baseline) and after adaptation (first run that rules chose).

    Raises:
        ValueError: If no run can be mapped.
    """
    from hf_wbc.plots.cell_map import draw_classes_map, draw_domains_map

    shown = [section.chosen[0]]
    others = [each for each in section.chosen[1:] if not each.by_labels]
    found = []
    for chosen in shown + others[:1]:
        mapped = feature_map(chosen.run, section.setting.merge)
        if mapped is None:
            continue
        alt = f"Map of {len(mapped.labels):,} test images by the features of {chosen.name}"
        by_class = draw_classes_map(mapped.map.xy, mapped.labels)
        by_domain = draw_domains_map(mapped.map.xy, mapped.domains, mapped.names)
        pictures = (
            picture(by_class, f"{alt}, colored by class.", points=True),
            picture(by_domain, f"{alt}, colored by laboratory.", points=True),
        )
        found.append((f"{chosen.name}, seed {chosen.run.seed}", mapped, *pictures))
    if not found:
        raise ValueError(
            f"a map needs at least {FEWEST_CELLS} test images whose features differ, and "
            f"{shown[0].name} has fewer"
        )
    return found


KINDS = tuple(_makers(Thumbnails()))
"""Kinds of figures, most important first."""
