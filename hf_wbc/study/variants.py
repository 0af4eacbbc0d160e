"""What tells two runs of one method apart, besides the seed, so that no mean hides a difference.

Where the runs of a method on a network and direction were made with several learning rates, or of
several versions of the data, each is a row of its own, named for what differs.
"""

import json
from collections.abc import Sequence
from typing import Any

from hf_wbc.study.collect import Run

_ELSEWHERE = {
    "sources", "target", "held_out", "method", "model", "seed", "selection", "merge", "classes",
    "inputs", "trainable",
}  # fmt: skip
"""Settings that a row holds in a column of their own."""
_WITHOUT_EFFECT = {"oracle", "allow_unscaled", "allow_single"}
"""Settings that change what is recorded or refused, and no weight."""
_SHOWN_DIGITS = 8


def decisions(run: Run) -> dict[str, Any]:
    """All that decides a run's result and has no column of its own, under plain names."""
    found: dict[str, Any] = {}
    for name, value in run.config.items():
        if name in _ELSEWHERE or name in _WITHOUT_EFFECT:
            continue
        if name == "method_options":
            found |= value
        elif isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    found["processes"] = run.record["machine"]["num_processes"]
    found["weights"] = _weights(run)
    for role in ("sources", "target", "held_out"):
        for domain in run.record[role]:
            prints = [domain["train"], domain["validation"]]
            found[f"{domain['name']} data"] = " ".join(map(_short, prints))
    return found


def variants(runs: Sequence[Run]) -> list[str]:
    """For each of several runs, in which settings, and how, it differs from some other.

    The text is empty where none differs.
    """
    found = [decisions(run) for run in runs]
    names = {name: None for each in found for name in each}
    differing = [name for name in names if len({repr(each.get(name)) for each in found}) > 1]
    return [
        ", ".join(f"{name} {_text(each[name])}" for name in differing if name in each)
        for each in found
    ]


def trained(run: Run) -> str:
    """How much of the network learned: full, lora, frozen, or features (embedded once)."""
    return "features" if run.config["inputs"] == "features" else str(run.config["trainable"])


def prefer_judged(runs: Sequence[Run]) -> list[Run]:
    """One run for each seed, by seed: of two that differ in no weight, the one that tells more."""
    ordered = sorted(runs, key=lambda run: (run.seed, bool(run.config["oracle"]), run.name))
    return list({run.seed: run for run in ordered}.values())


def _weights(run: Run) -> str:
    """The version of the weights that training began with; drawn ones differ by the seed alone."""
    model = run.record["model"]
    if run.config["fresh"]:
        return f"{model['num_parameters']:,} drawn"
    return _short(model["revision"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(fingerprint: str | None) -> str:
    """Enough of a fingerprint to tell it from others."""
    return str(fingerprint).removeprefix("sha256:")[:_SHOWN_DIGITS]
