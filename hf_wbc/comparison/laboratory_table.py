"""Tables of scores in laboratories that a model was not trained on, as Markdown.

One table for each protocol: trained on a single laboratory, or on all of some laboratories except
the scored one. A table stands between two marks of a Markdown file, and is replaced there.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from hf_wbc.comparison.laboratory_rows import LaboratoryScore

__all__ = ["END", "START", "render_tables", "replace_tables"]

START = "<!-- laboratory tables, rendered from docs/laboratories.jsonl -->"
END = "<!-- end of the laboratory tables -->"
MISSING = "–"
Row = tuple[str, str]
"""Name, and network with budget; its scores differ only in the seed."""
Protocol = tuple[bool, tuple[str, ...]]
"""Whether the scored laboratory is left out of the others, and the names of all of them."""


def render_tables(scores: Sequence[LaboratoryScore]) -> str:
    """Return one Markdown table for each protocol, in the order of the scores.

    A cell holds the mean over the seeds of macro-F1 and of the ends of its 95 % interval. The last
    column is the mean over the laboratories that are not sources, with its standard deviation over
    the seeds, for rows that have a score in all of them.

    Raises:
        ValueError: If a row has two scores of one seed in one column.
    """
    protocols: dict[Protocol, list[LaboratoryScore]] = {}
    for score in scores:
        protocols.setdefault(_protocol(score), []).append(score)
    return "\n\n".join(_table(protocol, found) for protocol, found in protocols.items())


def replace_tables(text: str, tables: str, start: str = START, end: str = END) -> str:
    """Return a page with the tables between two marks replaced.

    Raises:
        ValueError: If the page lacks a mark.
    """
    before, has_start, rest = text.partition(start)
    _, has_end, after = rest.partition(end)
    if not has_start or not has_end:
        raise ValueError(f"the page has no line {end if has_start else start}")
    return f"{before}{start}\n{tables}\n{end}{after}"


def _protocol(score: LaboratoryScore) -> Protocol:
    if len(score.sources) == 1:
        return False, score.sources
    return True, tuple(sorted({*score.sources, score.laboratory}))


def _table(protocol: Protocol, scores: Sequence[LaboratoryScore]) -> str:
    """Return the title, the table, and the classes of one protocol."""
    is_left_out, names = protocol
    listed = ", ".join(names)
    title = f"Trained on all of {listed} except the scored one" if is_left_out else (
        f"Trained on {listed} alone"
    )  # fmt: skip
    columns = sorted(
        {score.column: score.is_home for score in scores}.items(), key=lambda each: not each[1]
    )
    lines = [
        ["row", "network, budget", "seeds", *(_heading(*each) for each in columns), "mean"],
        ["---"] * 2 + ["--:"] * (len(columns) + 2),
    ]
    away = [column for column, is_home in columns if not is_home]
    for row, found in _by_row(scores).items():
        cells = [_cell(found.get(column, {})) for column, _ in columns]
        num_seeds = max(map(len, found.values()))
        lines.append([*row, str(num_seeds), *cells, _mean([found.get(each, {}) for each in away])])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{title}:\n\n{table}\n\n{_scored_classes([column for column, _ in columns])}"


def _heading(column: tuple[object, ...], is_home: bool) -> str:
    laboratory, images, num_images, classes, _ = column
    assert isinstance(classes, tuple) and isinstance(num_images, int)
    split = "" if images == "all" else f"{images}, "
    home = " (home)" if is_home else ""
    return f"`{laboratory}`{home}<br>{split}{num_images:,} cells, {len(classes)} classes"


Cells = Mapping[tuple[str, int | None], LaboratoryScore]
"""Scores by seed, or by run where several seeds are combined."""


def _by_row(
    scores: Sequence[LaboratoryScore],
) -> Mapping[Row, Mapping[tuple[object, ...], Cells]]:
    """Return the scores by row and column."""
    rows: dict[Row, dict[tuple[object, ...], dict[tuple[str, int | None], LaboratoryScore]]] = {}
    for score in scores:
        row = (score.row, f"{score.network}, {score.budget}")
        seed = (score.run if score.seed is None else "", score.seed)
        cells = rows.setdefault(row, {}).setdefault(score.column, {})
        if seed in cells:
            raise ValueError(
                f"{score.row} has two scores of seed {score.seed} in {score.laboratory}: of runs "
                f"{cells[seed].run} and {score.run}; give one of them another row"
            )
        cells[seed] = score
    return rows


def _cell(scores: Cells) -> str:
    if not scores:
        return MISSING
    mean, low, high = (
        fmean(getattr(each, name) for each in scores.values())
        for name in ("macro_f1", "low", "high")
    )
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def _mean(columns: Sequence[Cells]) -> str:
    """Return the mean over laboratories, with its deviation over the seeds scored in all."""
    if not columns or not all(columns):
        return MISSING
    mean = fmean(fmean(each.macro_f1 for each in cells.values()) for cells in columns)
    seeds = set.intersection(*(set(cells) for cells in columns))
    by_seed = [fmean(cells[seed].macro_f1 for cells in columns) for seed in sorted(seeds, key=str)]
    return _number(mean) + (f" ± {_number(stdev(by_seed))}" if len(by_seed) > 1 else "")


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _scored_classes(columns: Sequence[tuple[object, ...]]) -> str:
    """Return a sentence for each set of scored classes."""
    found: dict[tuple[object, ...], list[str]] = {}
    for laboratory, *_, classes, merge in columns:
        found.setdefault((classes, merge), []).append(str(laboratory))
    sentences = []
    for (classes, merge), laboratories in found.items():
        assert isinstance(classes, tuple) and isinstance(merge, tuple)
        named = f"Classes of {', '.join(dict.fromkeys(laboratories))}: {', '.join(classes)}"
        both = [pair.replace("=", " as ") for pair in merge]
        sentences.append(named + (f" (counting {', '.join(both)})." if both else "."))
    return " ".join(sentences)
