"""How long a study will take, from what runs like its own have taken, and what is not known."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hf_wbc.study.plan import Planned

LIKENESS = (
    ("method", ("model", "fresh", "inputs", "trainable", "image_size", "method")),
    ("network", ("model", "fresh", "inputs", "trainable", "image_size")),
    ("inputs", ("inputs", "trainable", "image_size")),
)
"""What a measured run must share to tell of another; the most alike first."""
WORDS = {
    "method": "the same network, inputs and method",
    "network": "the same network and inputs, other methods",
    "inputs": "the same inputs, other networks",
    "": "nothing measured",
}


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run takes in one worker, None where nothing is known, and from what."""

    seconds: float | None
    likeness: str
    """A key of `WORDS`."""
    num_measured: int = 0


class Measured:
    """Seconds per image of finished runs, by what they have in common."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._rates: dict[tuple[Any, ...], list[float]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Learn from a finished run's record."""
        config, cost = record["config"], record["cost"]
        num = cost["steps"] * _per_step(config, record["machine"]["num_processes"])
        if num:
            for likeness, names in LIKENESS:
                key = (likeness, *(config[name] for name in names))
                self._rates.setdefault(key, []).append(cost["elapsed_s"] / num)

    def estimate(self, planned: Planned) -> Estimate:
        """The median rate of the most alike runs, for the images that this one will draw."""
        config = planned.config.to_dict()
        num = planned.num_steps * _per_step(config, planned.num_processes)
        for likeness, names in LIKENESS:
            rates = self._rates.get((likeness, *(config[name] for name in names)))
            if rates:
                return Estimate(median(rates) * num, likeness, len(rates))
        return Estimate(None, "")


def read_records(root: Path) -> list[dict[str, Any]]:
    """Records of the finished training runs in a folder; a damaged one measures nothing."""
    found = []
    for path in sorted(root.glob("*/record.json")):
        try:
            record = json.loads(path.read_text())
            if record["kind"] == "training" and {"config", "cost", "machine"} <= record.keys():
                found.append(record)
        except (ValueError, KeyError, TypeError):  # `hf-wbc compare` names it
            continue
    return found


def total(estimates: Sequence[Estimate], num_workers: int) -> float:
    """Seconds until the last of the runs whose time is known ends, in the order of the study."""
    free = [0.0] * num_workers
    for estimate in estimates:
        place = free.index(min(free))
        free[place] += estimate.seconds or 0.0
    return max(free)


def say(runs: Sequence[Planned], estimates: Sequence[Estimate], num_workers: int) -> list[str]:
    """The estimate of the runs that are left in sentences, with what is not known."""
    known = [estimate for estimate in estimates if estimate.seconds is not None]
    lines = []
    if known:
        lines.append(
            f"about {duration(total(known, num_workers))} for {len(known)} runs in "
            f"{num_workers} worker{'s' if num_workers > 1 else ''}"
        )
        for likeness, words in WORDS.items():
            if num := sum(estimate.likeness == likeness for estimate in known):
                lines.append(f"{num} estimated from runs with {words}")
    if num := len(estimates) - len(known):
        lines.append(f"not known: {num} runs, like which none has been measured here")
    if num := max((run.num_to_embed for run in runs), default=0):
        lines.append(f"not in the estimate: {num:,} images or more that are still to be embedded")
    return lines


def duration(seconds: float) -> str:
    """A length of time as a person says it.

    >>> duration(42), duration(600), duration(4000), duration(200_000)
    ('42 s', '10 min', '1 h 07 min', '2 d 7 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _per_step(config: Mapping[str, Any], num_processes: int) -> int:
    return int(config["batch_size"] * config["accumulation"] * num_processes)
