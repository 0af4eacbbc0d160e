"""Time of choosing the next 10 cells among many embedded ones, by strategy.

    python tests/bench/choose_cells.py                # 100,000 cells of 1,280 features, 100 labels
    python tests/bench/choose_cells.py --num 10000

Prints the CPU seconds of the first `Learner.next`, which also projects the features, and of the
second, after ten more labels, as a Markdown table.
"""

import argparse
import time

import numpy as np

from hf_wbc.labeling.few_shot import LinearFewShotHead
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Pool
from hf_wbc.labeling.strategies import strategy_names
from hf_wbc.taxonomy import NUM_CLASSES


def cells(num: int, width: int) -> tuple[Pool, LinearFewShotHead]:
    """Return a pool of clusters, one for each class, and a head that separates them."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(NUM_CLASSES, width)).astype(np.float32)
    labels = rng.integers(0, NUM_CLASSES, num)
    features = rng.standard_normal((num, width), dtype=np.float32)
    features += centers[labels] / 4
    head = LinearFewShotHead(centers.astype(np.float64) / 40, np.zeros(NUM_CLASSES))
    names = tuple(f"{number:06}.png" for number in range(num))
    looks = np.zeros((num, 7))
    logits = (features @ head.weight.T.astype(np.float32)).astype(np.float32)
    return Pool("many", names, features, logits, labels, looks), head


def seconds(learner: Learner, num: int = 10) -> float:
    """Choose cells, label them, and return how long the choice took."""
    start = time.process_time()
    names = learner.next(num)
    took = time.process_time() - start
    learner.tell(names, learner.pool.labels[learner.pool.rows(names)].tolist())
    return took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--labels", type=int, default=100)
    options = parser.parse_args()
    pool, head = cells(options.num, options.width)
    print("| strategy | first choice, CPU s | next choice, CPU s |\n|---|--:|--:|")
    for name in strategy_names():
        learner = Learner(pool, head, strategy=name)
        known = np.random.default_rng(1).permutation(len(pool))[: options.labels]
        learner.tell([pool.image_ids[row] for row in known], pool.labels[known].tolist())
        first = seconds(learner)
        print(f"| `{name}` | {first:.2f} | {seconds(learner):.2f} |", flush=True)


if __name__ == "__main__":
    main()
