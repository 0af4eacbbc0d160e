"""Every method on one pair of laboratories: run the grid, then print its table from the records.

python tests/bench/adaptation.py --model M --sources A --target B --seeds 3 --out runs
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.config import TrainConfig


def fitting(inputs: str, num_sources: int, asked: Sequence[str]) -> list[str]:
    """The methods that can run on such inputs and sources, or those asked for."""
    needs = {name: load_method(name).needs for name in method_names()}
    return list(asked) or [
        name for name, need in needs.items()
        if need.num_sources <= num_sources and (inputs == "images" or not need.images)
    ]  # fmt: skip


def train(job: tuple[dict[str, Any], Path, Path]) -> tuple[str, float]:
    """One run; its folder and seconds."""
    import torch

    from hf_wbc.engine.run import run

    torch.set_num_threads(1)
    values, out, cache = job
    start = time.perf_counter()
    folder = run(TrainConfig.from_dict(values), out, cache)
    return str(folder.path), time.perf_counter() - start


def spread(values: Sequence[float]) -> str:
    """Mean and range over seeds, `.406 (.319 to .474)`."""
    mean, low, high = (
        f"{value:.3f}".replace("0.", ".", 1)
        for value in (statistics.mean(values), min(values), max(values))
    )
    return f"{mean} ({low} to {high})"


def table(paths: Sequence[str], target: str) -> None:
    """A row a method, the best on the target first."""
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in paths:
        record = json.loads((Path(path) / "record.json").read_text())
        records[record["config"]["method"]].append(record)
    rows = []
    for method, runs in records.items():
        away = [run["results"][target] for run in runs]
        home = [entry["test"]["macro_f1"] for run in runs for entry in run["results"].values()
                if entry["role"] == "source"]  # fmt: skip
        every = [entry["transductive"]["macro_f1"] for entry in away]
        prior = [run["label_shift"][target]["em"]["scores"]["macro_f1"] for run in runs]
        test = [entry["test"]["macro_f1"] for entry in away]
        accuracy = [entry["transductive"]["accuracy"] for entry in away]
        rows.append((statistics.mean(every), method, home, test, every, accuracy, prior))
    print("| method | home test | away test | away, all images | accuracy, all images "
          "| away test, EM priors |\n|---|--:|--:|--:|--:|--:|")  # fmt: skip
    for _, method, *columns in sorted(rows, reverse=True):
        print(f"| `{method}` | " + " | ".join(map(spread, columns)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--cache", type=Path, default=Path("build/features"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON")
    options = parser.parse_args()
    values: dict[str, Any] = {
        "sources": options.sources,
        "target": [options.target],
        "model": options.model,
        "inputs": "features",
        "steps": 300,
        "batch_size": 64,
        "lr": 1e-3,
        "evaluate_every": 100,
        "oracle": True,
    }
    for pair in options.set:
        name, _, value = pair.partition("=")
        values[name] = json.loads(value)
    jobs = [
        (values | {"method": name, "seed": seed}, options.out, options.cache)
        for seed in range(options.seeds)
        for name in fitting(values["inputs"], len(options.sources), options.methods)
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        done = list(pool.map(train, jobs))
    took = time.perf_counter() - start
    from hf_wbc.data.domain import load_domain

    table([path for path, _ in done], load_domain(options.target, "test").name)
    print(f"\n{len(done)} runs in {took:.0f} s on {options.processes} processes")
    judge(done)


def judge(done: Sequence[tuple[str, float]]) -> None:
    """What each selection rule would have chosen among all evaluations of all runs."""
    from hf_wbc.evaluation.judge import judge as judge_rules

    records = [json.loads((Path(path) / "record.json").read_text()) for path, _ in done]
    by_seed: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for record in records:
        config = record["config"]
        by_seed[config["seed"]] += [(config["method"], row) for row in record["history"]]
    found = {seed: (rows, judge_rules([row for _, row in rows])) for seed, rows in by_seed.items()}
    print("\n| rule | sees | chosen, by seed | oracle there | regret | rank correlation |"
          "\n|---|---|---|--:|--:|--:|")  # fmt: skip
    for rule in next(iter(found.values()))[1]:
        results = [(rows, judged[rule]) for rows, judged in found.values()]
        chosen = ", ".join(rows[result["row"]][0] for rows, result in results)
        columns = [
            spread([result[key] for _, result in results if result[key] is not None] or [0.0])
            for key in ("score", "regret", "correlation")
        ]
        print(f"| `{rule}` | {results[0][1]['sees']} | {chosen} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
