"""What labels brought to a laboratory, in sentences for the terminal and the page."""

from hf_wbc.data.reader_agreement import cohen_kappa, suspicious_readers
from hf_wbc.labeling.estimate import FEWEST_SAMPLED
from hf_wbc.labeling.learner import Learner
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import plural, shorten_list

__all__ = ["agreement_lines", "count_line", "describe"]


def count_line(learner: Learner) -> str:
    """Return how many cells have a class, and which."""
    counts = {name: list(learner.labels.values()).count(c) for c, name in enumerate(NAMES)}
    named = ", ".join(f"{name} {num}" for name, num in counts.items() if num)
    if not named:
        return f"no cell of {learner.pool.name} has a class yet"
    return f"labeled cells of {learner.pool.name}: {len(learner.labels)} ({named})"


def agreement_lines(learner: Learner) -> list[str]:
    """Return how far readers agree, what they disagree on, and who gave a single class."""
    lines = [
        f"{one or '?'} and {other or '?'} agree on {num} cells with kappa {kappa:.2f}"
        for (one, other), (kappa, num) in cohen_kappa(learner.answers).items()
    ]
    if learner.conflicts:
        lines.append(f"left out, readers disagree: {shorten_list(learner.conflicts)}")
    return lines + suspicious_readers(learner.answers)


def describe(learner: Learner) -> list[str]:
    """Return what the labels brought, a line each."""
    lines = [count_line(learner), *agreement_lines(learner), *learner.adaptation.sentences]
    if (found := learner.estimate()) is None:
        return [
            *lines,
            f"{plural(len(learner.sample), 'random cell')} labeled; {FEWEST_SAMPLED} give an "
            "estimate.",
        ]
    after, before = found
    for when, each in (("without labels", before), ("with labels", after)):
        low, high = each.interval
        lines.append(
            f"macro-F1 {when}: {each.macro_f1:.2f} [{low:.2f}, {high:.2f}], estimated from "
            f"{len(learner.sample)} random cells"
        )
    for name, (recall, low, high) in after.recalls.items():
        lines.append(f"  recall of {name}: {recall:.2f} [{low:.2f}, {high:.2f}]")
    lines += [
        f"No cell is predicted as {name}: as long as cells of this class occur, its F1 of 0 lowers "
        "macro-F1."
        for name, (_, _, high) in after.recalls.items()
        if not high
    ]
    if calibration := learner.calibration():
        lines.append(calibration.sentence)
    if curve := learner.learning_curve():
        low, high = curve.interval
        lines.append(
            f"The next {curve.next_labels} labels will probably bring {curve.gain:+.2f} macro-F1 "
            f"[{low:+.2f}, {high:+.2f}]."
        )
    return lines
