"""Render the tables and the figure of docs/labeling.md from docs/label_simulations.csv.

    python -m hf_wbc.cli.label_tables

That page has the commands that make the draws (`hf-wbc label --simulate --draws`). The first 20
repetitions give the learning curves and the heads, those from 1000 on judge the intervals.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from hf_wbc.comparison.laboratory_table import replace_tables
from hf_wbc.escape import print_plain
from hf_wbc.labeling.draw_records import read_draws
from hf_wbc.labeling.few_shot import FAMILIES
from hf_wbc.labeling.last_block import LAST_BLOCK
from hf_wbc.labeling.learner import DEFAULT_STRATEGY
from hf_wbc.labeling.simulate import Draw, curve, interval_of_mean, paired_gaps

__all__ = ["render", "rendered"]

RECORDS, PAGE, FIGURE = "docs/label_simulations.csv", "docs/labeling.md", "docs/label_curves.png"
RANDOM, HEAD = "random", "logistic"
STRATEGIES = (DEFAULT_STRATEGY, RANDOM)
FIRST_JUDGED = 1000
"""Seed of the first repetition that judges the intervals."""
HEAD_BUDGETS = (10, 50)
"""Numbers of labels in the table of heads."""
REFERENCE = 100
"""Random labels whose score the default has to reach with fewer."""


def render(folder: Path = Path()) -> None:
    """Write the tables into docs/labeling.md, and the figure beside it.

    Args:
        folder: The checkout.
    """
    from hf_wbc.plots.label_curves import label_curves

    draws = read_draws(folder / RECORDS)
    (folder / PAGE).write_text(rendered(folder, draws), encoding="utf-8")
    label_curves(curve(_curves(draws)), folder / FIGURE)
    print_plain(f"wrote {PAGE} and {FIGURE}")


def rendered(folder: Path, draws: Sequence[Draw]) -> str:
    """Return docs/labeling.md with the tables of these draws.

    Raises:
        ValueError: If the page has no place for a table.
    """
    text = (folder / PAGE).read_text(encoding="utf-8")
    tables = {
        "curves": _curve_table, "needed": _needed_table, "heads": _head_table,
        "last_block": _last_block_table, "intervals": _interval_table,
    }  # fmt: skip
    for name, make in tables.items():
        head, rule, *rows = make(draws)
        if not rows:
            raise ValueError(f"there are no draws for the table of {name}")
        table = "\n" + "\n".join([head, rule, *rows]) + "\n"
        text = replace_tables(text, table, f"<!-- {name} -->", f"<!-- /{name} -->")
    return text


def _curves(draws: Sequence[Draw]) -> list[Draw]:
    """Return the draws of the learning curves: default head, default strategy and random."""
    return _complete([d for d in draws if d.head == HEAD])


def _complete(draws: Sequence[Draw]) -> list[Draw]:
    """Return the first draws, without repetitions that a simulation left unfinished."""
    first = [d for d in draws if d.seed < FIRST_JUDGED]
    counts = Counter((d.cells, d.seed) for d in first)
    most: dict[str, int] = {}
    for (cells, _), num in counts.items():
        most[cells] = max(num, most.get(cells, 0))
    return [d for d in first if counts[d.cells, d.seed] == most[d.cells]]


def _with_mean(draws: Sequence[Draw], budget: int) -> list[list[Draw]]:
    """Return the draws of each laboratory with this budget, then those of all as their mean.

    The mean is over repetitions that all laboratories have, so that each counts as much.
    """
    mine = [d for d in draws if d.budget == budget]
    names = list(dict.fromkeys(d.laboratory for d in mine))
    found = [[d for d in mine if d.laboratory == name] for name in names]
    if len(names) == 1:
        return found
    seeds = set.intersection(*({d.seed for d in each} for each in found))
    title = f"**mean of {len(names)}**"
    return [*found, [replace(d, laboratory=title) for d in mine if d.seed in seeds]]


def _curve_table(draws: Sequence[Draw]) -> list[str]:
    lines = [
        "| laboratory | labels | draws | without labels | default | random "
        "| default − random, paired | default below | random below |",
        "|---|--:|--:|--:|---|---|---|--:|--:|",
    ]
    kept = _curves(draws)
    for budget in sorted({d.budget for d in kept}):
        for mine in _with_mean(kept, budget):
            one, other = ([d for d in mine if d.strategy == each] for each in STRATEGIES)
            zero = float(np.mean([d.zero_shot for d in one]))
            lines.append(
                f"| {one[0].laboratory} | {budget} | {len(one)} | {_plain(zero)} | {_mean(one)} | "
                f"{_mean(other)} | {_signed(one, other)} | {_below(one)} | {_below(other)} |"
            )
    return lines


def _needed_table(draws: Sequence[Draw]) -> list[str]:
    lines = [
        f"| laboratory | {REFERENCE} random labels | labels of the default that reach it "
        f"| {REFERENCE // 2} labels of the default − {REFERENCE} random, paired |",
        "|---|---|---|---|",
    ]
    kept = _curves(draws)
    for reference in _with_mean([d for d in kept if d.strategy == RANDOM], REFERENCE):
        cells = {d.cells for d in reference}
        goal = np.mean([d.macro_f1 for d in reference])
        mine = [d for d in kept if d.cells in cells and d.strategy == DEFAULT_STRATEGY]
        means = {
            budget: float(np.mean([d.macro_f1 for d in mine if d.budget == budget]))
            for budget in sorted({d.budget for d in mine})
        }
        reached = next((budget for budget, score in means.items() if score >= goal), None)
        shown = "not reached" if reached is None else f"{reached} ({_plain(means[reached])})"
        half = [d for d in mine if d.budget == REFERENCE // 2]
        lines.append(
            f"| {reference[0].laboratory} | {_mean(reference)} | {shown} | "
            f"{_signed(half, reference)} |"
        )
    return lines


def _head_table(draws: Sequence[Draw]) -> list[str]:
    others = [head for head in FAMILIES if head != HEAD]
    titles = [f"`{head}` − `{HEAD}`, paired" for head in others]
    facts = [f"`{head}` kept, below" for head in FAMILIES]
    lines = [
        f"| labels | chosen | laboratory | draws | `{HEAD}` (default) | "
        f"{' | '.join([*titles, *facts])} |",
        "|--:|---|---|--:|---|" + "---|" * (len(titles) + len(facts)),
    ]
    draws = [d for d in draws if d.head in FAMILIES]
    compared = {d.cells for d in draws if d.head != HEAD}
    known = _complete([d for d in draws if d.cells in compared])
    for budget in HEAD_BUDGETS:
        for strategy in STRATEGIES:
            for mine in _with_mean([d for d in known if d.strategy == strategy], budget):
                of = {head: [d for d in mine if d.head == head] for head in FAMILIES}
                gaps = [_signed(of[head], of[HEAD]) for head in others]
                kept = [
                    f"{_share(d.is_adapted for d in each)}, {_below(each)}" for each in of.values()
                ]
                chosen = "default" if strategy == DEFAULT_STRATEGY else strategy
                lines.append(
                    f"| {budget} | {chosen} | {mine[0].laboratory} | {len(of[HEAD])} | "
                    f"{' | '.join([_mean(of[HEAD]), *gaps, *kept])} |"
                )
    return lines


def _last_block_table(draws: Sequence[Draw]) -> list[str]:
    """Compare `last_block` with the probe that it starts from, on draws that both have."""
    lines = [
        f"| labels | chosen | laboratory | draws | without labels | `{HEAD}` | `{LAST_BLOCK}` "
        f"| `{LAST_BLOCK}` − `{HEAD}`, paired | block kept | `{LAST_BLOCK}` below |",
        "|--:|---|---|--:|--:|---|---|---|--:|--:|",
    ]
    tuned = {(d.cells, d.seed, d.strategy, d.budget) for d in draws if d.head == LAST_BLOCK}
    both = [d for d in draws if (d.cells, d.seed, d.strategy, d.budget) in tuned]
    for budget, strategy in sorted({(d.budget, d.strategy) for d in both}, reverse=True):
        for mine in _with_mean([d for d in both if d.strategy == strategy], budget):
            one, other = ([d for d in mine if d.head == head] for head in (LAST_BLOCK, HEAD))
            zero = float(np.mean([d.zero_shot for d in one]))
            chosen = "default" if strategy == DEFAULT_STRATEGY else strategy
            lines.append(
                f"| {budget} | {chosen} | {one[0].laboratory} | {len(one)} | {_plain(zero)} | "
                f"{_mean(other)} | {_mean(one)} | {_signed(one, other)} | "
                f"{_share(d.is_adapted for d in one)} | {_below(one)} |"
            )
    return lines


def _interval_table(draws: Sequence[Draw]) -> list[str]:
    lines = [
        "| laboratory | labels | draws | held | held the score of the test cells alone "
        "| mean width | mean error | below the model without labels |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    judged = [d for d in draws if d.seed >= FIRST_JUDGED]
    for key in sorted({(d.laboratory, d.budget) for d in judged}):
        mine = [d for d in judged if (d.laboratory, d.budget) == key]
        held = sum(bool(d.holds(d.laboratory_f1)) for d in mine)
        alone = sum(bool(d.holds(d.macro_f1)) for d in mine)
        width = float(np.mean([(d.high or 0) - (d.low or 0) for d in mine]))
        error = float(np.mean([(d.estimate or 0) - d.laboratory_f1 for d in mine]))
        below = sum(d.macro_f1 < d.zero_shot for d in mine)
        lines.append(
            f"| {key[0]} | {key[1]} | {len(mine)} | {held} | {alone} | {_plain(width)} | "
            f"{_plain(error, '+')} | {below} |"
        )
    return lines


def _plain(value: float, sign: str = "") -> str:
    """Return a score without the zero before the point: .574."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _mean(draws: Sequence[Draw]) -> str:
    scores = np.array([d.macro_f1 for d in draws])
    low, high = interval_of_mean(scores)
    return f"{_plain(float(scores.mean()))} [{_plain(low)}, {_plain(high)}]"


def _signed(first: Sequence[Draw], second: Sequence[Draw]) -> str:
    """Return the mean paired difference and its interval."""
    gaps = paired_gaps(first, second)
    low, high = interval_of_mean(gaps)
    return f"{_plain(float(gaps.mean()), '+')} [{_plain(low, '+')}, {_plain(high, '+')}]"


def _share(flags: Iterable[bool]) -> str:
    return f"{np.mean(list(flags)):.0%}"


def _below(draws: Sequence[Draw]) -> str:
    return _share(d.macro_f1 < d.zero_shot for d in draws)


if __name__ == "__main__":
    tyro.cli(render)
