"""Learning curves of laboratories whose labels are known: `hf-wbc label --simulate`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hf_wbc.cli.display import stage_progress
from hf_wbc.cli.label_session import check_learning, open_laboratory
from hf_wbc.escape import markdown_name, print_plain
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.adapt import prototypes_of, source_head
from hf_wbc.labeling.draw_records import append_draw, read_draws
from hf_wbc.labeling.simulate import Draw, advantages, curve, identity, scorable, simulate

if TYPE_CHECKING:
    from hf_wbc.cli.label import SimulationOptions

__all__ = ["run_simulation"]


def run_simulation(
    model: str,
    refs: Sequence[str],
    mapping: Path | None,
    cache: Path,
    merge: Sequence[str],
    simulation: "SimulationOptions",
    options: PredictOptions,
) -> None:
    """Print learning curves of laboratories whose labels are known, as a Markdown table."""
    check_learning(simulation.strategies, merge)
    path = simulation.draws
    kept = [] if path is None else read_draws(path)
    draws: list[Draw] = []
    for ref in refs:
        pretrained, pool = open_laboratory(model, ref, mapping, cache, options, False)
        cells, note = scorable(pool)
        if note:
            print_plain(f"{pool.name}: {note}")
        prototypes = prototypes_of(read_reference_set(model, pretrained))
        known = {each.key: each for each in kept}
        with stage_progress() as progress:
            for draw in simulate(
                cells, source_head(pretrained), strategies=simulation.strategies,
                budgets=simulation.budgets, seeds=simulation.seeds,
                first_seed=simulation.first_seed, heads=simulation.heads, merge=merge,
                prototypes=prototypes, pretrained=pretrained, known=known,
                on_progress=partial(progress, pool.name),
            ):  # fmt: skip
                kept.append(draw)
                if path is not None:
                    append_draw(path, draw)
        draws += [
            each for each in kept if each.key[:3] == identity(cells) and _is_asked(each, simulation)
        ]
    if len(refs) > 1:
        draws += [replace(each, laboratory="mean of all") for each in draws]
    print_curves(draws)
    if simulation.figure is not None:
        from hf_wbc.plots.label_curves import label_curves

        first = [row for row in curve(draws) if row["head"] == simulation.heads[0]]
        label_curves(first, simulation.figure)
        print_plain(f"wrote {simulation.figure}")


def _is_asked(draw: Draw, simulation: "SimulationOptions") -> bool:
    """Return whether a draw of the file belongs to this command."""
    return (
        draw.strategy in simulation.strategies
        and draw.head in simulation.heads
        and draw.budget in simulation.budgets
        and 0 <= draw.seed - simulation.first_seed < simulation.seeds
    )


def print_curves(draws: Sequence[Draw]) -> None:
    """Print the scores of all draws, and what the first strategy adds to the others."""
    print(
        "| laboratory | strategy | head | labels | macro-F1 | 95 % of means | without labels "
        "| gain | below | adapted | estimate holds |"
    )
    print("|---|---|---|--:|--:|---|--:|--:|--:|--:|--:|")
    for row in curve(draws):
        low, high = row["interval"]
        held = "" if row["covered"] is None else f"{row['covered']:.0%}"
        print_plain(
            f"| {markdown_name(row['laboratory'])} | {row['strategy']} | {row['head']} | "
            f"{row['budget']} | {row['macro_f1']:.3f} | [{low:.3f}, {high:.3f}] | "
            f"{row['zero_shot']:.3f} | {row['gain']:+.3f} | {row['below_zero_shot']:.0%} | "
            f"{row['adapted']:.0%} | {held} |"
        )
    if found := advantages(draws):
        print("\n| laboratory | labels | against | difference | 95 % of means |")
        print("|---|--:|---|--:|---|")
    for each in found:
        low, high = each["interval"]
        print_plain(
            f"| {markdown_name(each['laboratory'])} | {each['budget']} | {each['against']} | "
            f"{each['difference']:+.3f} | [{low:+.3f}, {high:+.3f}] |"
        )
