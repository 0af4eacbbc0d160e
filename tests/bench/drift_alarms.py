"""How often `hf-wbc drift` raises an alarm: false ones, and those on another laboratory's cells.

    python tests/bench/drift_alarms.py spaces/wbc/model build/tecom_jiangxi build/bccd_crops \
        build/cellavision_blog

False alarms: 50 random cells of a laboratory against the rest of it. Alarms: the first 10, 20 and
50 random cells of each other laboratory against 200 (or all) of its cells. Prints Markdown tables.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.evaluation.selective import Rejection
from hf_wbc.inference.options import PredictOptions
from hf_wbc.labeling.drift import build_baseline, drift
from hf_wbc.labeling.pool import Pool, open_pool

BATCH, BATCHES, BASELINE = 50, (10, 20, 50), 200


def is_alarm(before: Pool, later: Pool, rejection: Rejection | None, seed: int) -> bool:
    """Compare cells with a baseline."""
    baseline = build_baseline(before, rejection, "model")
    return drift(baseline, later, rejection, "model", seed=seed).alarm


def false_alarms(pool: Pool, rejection: Rejection | None, repeats: int) -> int:
    """Return the number of alarms on random cells of the same laboratory."""
    found = 0
    for seed in range(repeats):
        order = np.random.default_rng((seed, 1)).permutation(len(pool))
        found += is_alarm(pool.take(order[BATCH:]), pool.take(order[:BATCH]), rejection, seed)
    return found


def alarms(
    pool: Pool, other: Pool, rejection: Rejection | None, repeats: int, num: int
) -> int:  # fmt: skip
    """Return the number of alarms on `num` random cells of another laboratory."""
    found = 0
    for seed in range(repeats):
        rng = np.random.default_rng((seed, 2))
        before, later = (rng.permutation(len(each)) for each in (pool, other))
        found += is_alarm(pool.take(before[:BASELINE]), other.take(later[:num]), rejection, seed)
    return found


def rate(num: int, total: int) -> str:
    """Return a rate with its exact 95 % interval."""
    low, high = binomtest(num, total).proportion_ci()
    return f"{num} of {total} | {num / total:.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--repeats", type=int, default=100, help="of each laboratory")
    parser.add_argument("--pairs", type=int, default=5, help="of each pair of laboratories")
    parser.add_argument("--cache", type=Path, default=Path("build/labeling"))
    given = parser.parse_args()
    options = PredictOptions(cell_fills_frame=True)
    opened = partial(open_pool, given.model, options=options, cache=given.cache, reserve_test=False)
    found = [opened(folder) for folder in given.folders]
    pools = [pool for _, pool in found]
    abstention = fit_run_abstention(found[0][0])
    rejection = None if abstention is None else abstention.rejection

    print("| laboratory | false alarms | rate |\n|---|--:|---|")
    counts = []
    for pool in pools:
        counts.append(false_alarms(pool, rejection, given.repeats))
        print(f"| {pool.name} | {rate(counts[-1], given.repeats)} |", flush=True)
    print(f"| all | {rate(sum(counts), given.repeats * len(pools))} |", flush=True)
    print("\n| laboratory | cells of another one | alarms | rate |\n|---|--:|--:|---|")
    for pool in pools:
        for num in BATCHES:
            others = [other for other in pools if other is not pool]
            total = sum(alarms(pool, other, rejection, given.pairs, num) for other in others)
            row = f"| {pool.name} | {num} | {rate(total, given.pairs * len(others))} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
