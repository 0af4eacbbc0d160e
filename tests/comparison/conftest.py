"""Small finished runs in the real schema, written without training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.model_selection import criterion_values, selection_rule
from hf_wbc.records import RunFolder, digest
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

NUM = 60
"""Number of test images per domain; the validation split has the same number."""
COST = {
    "steps": 10,
    "train_s": 2.0,
    "elapsed_s": 3.6,
    "images_per_s": 320.0,
    "peak_memory_bytes": 2**30,
}


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write a run folder; see `write_run`."""
    return write_run


def truth(domain: str, split: str) -> np.ndarray:
    """Return the fixed labels (NUM,) of a domain's images, from five classes."""
    rng = np.random.default_rng(int(digest({"of": [domain, split]}), 16))
    return rng.choice([0, 1, 8, 9, 10], NUM)


def guess(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Draw predictions (N,) that are correct with probability `skill`."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice([0, 1, 2, 8, 9, 10], len(labels))
    return np.where(rng.random(len(labels)) < skill, labels, wrong)


def write_run(
    root: Path,
    method: str = "source_only",
    seed: int = 0,
    *,
    source: str = "home",
    target: str | None = "away",
    skill: float = 0.5,
    rule: str = "source_val",
    model: str = "nets/tiny",
    exposure: str = "ImageNet, labels",
    exposed_to: Sequence[str] = (),
    history: Sequence[dict[str, Any]] | None = None,
    kept_step: int = 20,
    versions: dict[str, str] | None = None,
    groups: Callable[[str], list[str | None]] | None = None,
    cost: dict[str, Any] = COST,
    predicted: np.ndarray | None = None,
    num_target_labels: int = 0,
    **changes: Any,
) -> Path:
    """Write a finished run from `source` to `target` under `root` and return its folder.

    Args:
        root: Parent folder of the run.
        skill: Accuracy on the target.
        predicted: Predicted target classes (NUM,), instead of `skill`.
        num_target_labels: Target labels that the run was trained on.
        versions: Fingerprints of domains that differ from the default derived from their names.
        groups: Group names of a domain's images.
        changes: Changed configuration fields.
    """
    domains = {source: "source"} | ({target: "target"} if target else {})
    built = TrainConfig(
        sources=(f"data/{source}",),
        target=(f"data/{target}",) if target else (),
        method=method,
        model=model,
        seed=seed,
        selection=rule,
        **{"oracle": bool(target), **changes},
    )
    config, flat = built.to_dict(), built.flat()
    facts = {name: _facts(name, (versions or {}).get(name, name)) for name in domains}
    drawn = {"weights of": model} | ({"seed": seed} if built.model.from_scratch else {})
    revision = f"{'fresh' if built.model.from_scratch else 'sha256'}:{digest(drawn)}"
    identity = {**flat, "model": revision, "num_processes": 1} | {
        part: [facts[name] for name, role in domains.items() if role == kind]
        for part, kind in (("sources", "source"), ("target", "target"))
    }
    labels_facts = None
    if num_target_labels:
        labels_facts = {
            "num": num_target_labels, "strategy": "margin", "readers": ["AB"], "digest": "0a1b",
        }  # fmt: skip
        identity["target_labels"] = labels_facts
    folder = RunFolder(root / digest(identity))
    results: dict[str, Any] = {}
    tables = []
    salt = int(digest({"method": method, "seed": seed, "rule": rule}), 16)
    for name, role in domains.items():
        splits = ("validation", "test") if role == "source" else ("test",)
        entry = results.setdefault(name, {"role": role})
        for split in splits:
            labels = truth(name, split)
            mine = predicted if role == "target" else None
            found = (
                guess(labels, skill if role == "target" else 0.9, salt) if mine is None else mine
            )
            entry[split] = _scores(labels, found, flat)
            tables.append(_rows(name, split, labels, found, groups and groups(name)))
        if role == "target":
            entry["transductive"] = entry["test"]
    history = list(history or _history(source, target, built.eval.oracle))
    rows = [{**row, "selection": criterion_values(row)} for row in history]
    kept = next(row for row in rows if row["step"] == kept_step)
    chosen = selection_rule(rule)
    with folder.writing(config, identity):
        for row in rows:
            folder.append_history(row)
        table = pa.concat_tables(tables)
        pq.write_table(table, folder.predictions)
        keys = {key: table[key] for key in ("domain", "split", "image_id")}
        features = np.random.default_rng(salt).normal(size=(len(table), 4)).astype(np.float32)
        pq.write_table(pa.table({**keys, "features": _fixed(features)}), folder.features)
        folder.write_record(
            {
                "kind": "training",
                "run": folder.path.name,
                "config": config,
                "model": {
                    "name": model,
                    "revision": revision,
                    "exposure": exposure,
                    "exposed_to": list(exposed_to),
                    "num_parameters": 1000,
                    "num_trained": 100,
                },
                "images": {"note": "", "pipeline_scores": {}},
                "results": results,
                "label_shift": {},
                "sources": [facts[source]],
                "target": [facts[target]] if target else [],
                "held_out": [],
                "target_labels": labels_facts,
                "selection": {
                    "rule": rule,
                    "sees": chosen.sees,
                    "step": kept_step,
                    "score": chosen.value(kept),
                },
                "history": rows,
                "cost": dict(cost),
                "across_processes": "",
                "machine": {"device": "CPU, 1 threads", "num_processes": 1},
                "packages": {"hf_wbc": "0.1.0", "torch": "2.8.0", "transformers": "5.0.0"},
            }
        )
    return folder.path


def evaluation(
    step: int, source_val: float, oracle: float | None = None, phase: str = "fit", **rules: float
) -> dict[str, Any]:
    """Return a line of the training history, from home to away."""
    row: dict[str, Any] = {"step": step, "phase": phase, "loss": {"loss": 1.0}}
    row["source_val"] = {"home": {"macro_f1": source_val, "loss": 1.0}}
    if rules:
        row["unlabeled"] = {"away": rules}
    if oracle is not None:
        row["oracle"] = {"away": {"macro_f1": oracle}}
    return row


def _history(source: str, target: str | None, oracle: bool) -> list[dict[str, Any]]:
    rows = []
    for step, value in ((10, 0.6), (20, 0.8)):
        row = evaluation(step, value, value / 2 if oracle else None, im=-value)
        row["source_val"] = {source: row["source_val"]["home"]}
        for part in ("unlabeled", "oracle"):
            if part in row:
                row[part] = {target: row[part]["away"]}
        rows.append(row if target else {k: v for k, v in row.items() if k != "unlabeled"})
    return rows


def _facts(name: str, version: str) -> dict[str, Any]:
    prints = {s: digest({"print": [version, s]}) * 4 for s in ("train", "validation", "test")}
    return {"name": name, "revision": None, **prints, "ref": f"data/{name}"}


def _scores(labels: np.ndarray, found: np.ndarray, config: dict[str, Any]) -> dict[str, Any]:
    options = {"merge": config["merge"], "classes": config["classes"]}
    drawn = bootstrap_intervals(labels, found, num_resamples=50, seed=config["seed"], **options)
    return {**score(labels, found, **options), "intervals": drawn}


def _rows(
    name: str,
    split: str,
    labels: np.ndarray,
    found: np.ndarray,
    groups: list[str | None] | None,
) -> pa.Table:
    num = len(labels)
    logits = np.random.default_rng(num).normal(size=(num, NUM_CLASSES)).astype(np.float32)
    logits[np.arange(num), found] = logits.max(1) + 1
    odds = np.exp(logits.astype(float))
    p = odds / odds.sum(1, keepdims=True)
    return pa.table(
        {
            "domain": [name] * num,
            "split": [split] * num,
            "image_id": [f"{name}_{split}_{i}.png" for i in range(num)],
            **({"group": groups} if groups else {}),
            "label": labels,
            "predicted": found,
            "logits": _fixed(logits),
            **{f"p_{cell}": p[:, i] for i, cell in enumerate(NAMES)},
        }
    )


def _fixed(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
