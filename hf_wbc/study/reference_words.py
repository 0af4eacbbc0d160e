"""What stands beside the scores, in words: what others reported, and how far examiners agree."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hf_wbc.study.challenge import CHALLENGE, PARTICIPANTS
from hf_wbc.study.words import ARROW, Section, Table, count, listed, three
from hf_wbc.taxonomy import NAMES

CHALLENGES_OWN = frozenset({"acevedo_20", "matek_19", "mll_23", "wbc_1", "wbc_2"})
"""Domains of the challenge and of its laboratory: beside others its scores say nothing."""


def reference_sections(
    domains: Collection[str], ceiling: Mapping[str, Any] | None = None
) -> Iterator[Section]:
    """For a comparison of runs on `domains`; `ceiling` is what `noise_ceiling` found, if asked."""
    if CHALLENGES_OWN & {*domains}:
        yield challenge_section()
    if ceiling is not None:
        yield from ceiling_sections(ceiling)


def challenge_section() -> Section:
    """The challenge's participants, marked as reported."""
    cells = tuple(
        (
            str(row.rank or ""),
            row.method,
            row.network,
            f"{' + '.join(row.sources)} {ARROW} {row.target}",
            row.remarks,
            f"{row.macro_f1:.2f}",  # no more digits than were given
            f"{row.accuracy:.2f}",
        )
        for row in PARTICIPANTS
    )
    headings = ("rank", "method", "network", "direction", "remarks", "macro-F1", "accuracy")
    words = (
        f"Reported, not measured here: {CHALLENGE}. No intervals and no numbers of classes were "
        "given. They can be compared with scores on the same images only: MLL23 is of the same "
        "laboratory, and other images.",
    )
    return Section("What others reported", paragraphs=words, table=Table(headings, cells, 5))


def ceiling_sections(ceiling: Mapping[str, Any]) -> Iterator[Section]:
    """The agreement of examiners as a table of pairs, and one of classes."""
    pairs = [pair for pair in ceiling["pairs"] if pair["num_images"]]
    if not pairs:
        only = f"Of {count(ceiling['num_annotated'], 'image')} none was looked at a second time."
        yield Section("How far examiners agree", paragraphs=(only, *_left_out(ceiling)))
        return
    merged = f" Scored as one: {', '.join(ceiling['merge'])}." if ceiling["merge"] else ""
    words = (
        "A second look at the same images, scored against the first as a classifier would be: a "
        "guide to how high a score can mean anything. "
        f"{ceiling['num_looked_at_again']:,} of {ceiling['num_annotated']:,} images were looked at "
        "again; their shares of the classes need not be the archive's."
        f"{merged}",
        *_left_out(ceiling),
    )
    yield Section(
        "How far examiners agree", paragraphs=words, table=_pairs(pairs, ceiling), is_short=True
    )
    yield Section("How far examiners agree, by class", level=3, table=_classes(pairs))


def ceiling_rows(ceiling: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs as flat rows for CSV and Parquet, one value a cell."""
    rows = []
    for pair in ceiling["pairs"]:
        scores: dict[str, float] = {}
        for name, (low, high) in pair.get("intervals", {}).items():
            scores |= {name: pair[name], f"{name}_low": low, f"{name}_high": high}
        far = {f"{kind}_errors": share for kind, share in pair.get("lineage_errors", {}).items()}
        names = {name: pair[name] for name in ("reference", "second_look", "num_images")}
        rows.append({**names, "num_classes": pair.get("num_classes", 0), **scores, **far})
    return [row for row in rows if row["num_images"]]


def _left_out(ceiling: Mapping[str, Any]) -> Iterator[str]:
    """What of the table could not be used."""
    unknown, bad = ceiling["unknown_codes"], ceiling["bad_lines"]
    if ceiling["num_outside"]:
        yield f"{count(ceiling['num_outside'], 'image')} of no class of the eleven left out."
    if unknown:
        codes = listed([f"{code} ({number})" for code, number in unknown.items()])
        yield f"Codes that nobody declared, taken as no second look: {codes}."
    if bad:
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        yield f"Lines that cannot be used: {'; '.join(bad[:3])}{more}."


def _pairs(pairs: Sequence[Mapping[str, Any]], ceiling: Mapping[str, Any]) -> Table:
    def ranged(pair: Mapping[str, Any], name: str) -> str:
        low, high = pair["intervals"][name]
        return f"{three(pair[name])} [{three(low)}, {three(high)}]"

    percent = f"{100 * ceiling['level']:g} %"
    headings = (
        "reference", "second look", f"macro-F1 [{percent}]", f"accuracy [{percent}]",
        f"kappa [{percent}]", "other lineage", "outside", "classes", "images",
    )  # fmt: skip
    cells = tuple(
        (
            pair["reference"],
            pair["second_look"],
            *(ranged(pair, name) for name in ("macro_f1", "accuracy", "kappa")),
            three(pair["lineage_errors"]["cross_lineage"]),
            three(pair["lineage_errors"]["outside"]),
            str(pair["num_classes"]),
            str(pair["num_images"]),
        )
        for pair in pairs
    )
    return Table(headings, cells, 2, wide=headings[3:8])


def _classes(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """The share of each class that was named so again, with the number of its images."""
    headings = ("class", *(f"{pair['reference']} / {pair['second_look']}" for pair in pairs))
    cells = []
    for name in NAMES:
        found = [pair["per_class"].get(name) for pair in pairs]
        if any(found):
            cells.append((name, *(_share(each) for each in found)))
    return Table(headings, tuple(cells))


def _share(found: Mapping[str, Any] | None) -> str:
    return f"{three(found['agreement'])} of {found['support']}" if found else ""
