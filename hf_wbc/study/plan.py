"""What a study will do: the folder of every run, found out without training, and how far it is.

Data and weights are read once for all runs that share them.

How long a study will take, from what runs like its own have taken, and what is not known."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from hf_wbc.config import TrainConfig
from hf_wbc.engine.domains import load_domains
from hf_wbc.engine.features import features_path
from hf_wbc.engine.resolve import resolve, stable_values
from hf_wbc.models import PretrainedModel, load_classifier
from hf_wbc.records import RunFolder, digest, read_json

State = Literal["finished", "unfinished", "new", "failed", "refused"]
"""`refused`: the configuration, its data or its model cannot be used, and nothing was trained."""
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    asked: TrainConfig
    config: TrainConfig
    """Resolved; as asked when that was refused."""
    identity: dict[str, Any]
    """What names the folder; empty when refused."""
    folder: RunFolder
    state: State
    failure: str = ""
    """Why it failed or was refused."""
    num_processes: int = 1
    num_to_embed: int = 0
    """Images whose features have still to be computed."""

    @property
    def direction(self) -> str:
        """`acevedo_20 -> matek_19`."""
        sources, targets, held_out = (
            "+".join(Path(ref.partition("@")[0]).name for ref in refs)
            for refs in (self.asked.data.sources, self.asked.data.target, self.asked.data.held_out)
        )
        direction = f"{sources} -> {targets}" if targets else sources
        return f"{direction} ({held_out} selects)" if held_out else direction

    @property
    def network(self) -> str:
        """The model's name without a path or a revision."""
        return Path(self.asked.model.name.partition("@")[0]).name

    @property
    def name(self) -> str:
        """Method, direction and seed, for a reader."""
        return f"{self.asked.adapt.method}  {self.direction}  seed {self.asked.seed}"

    @property
    def num_steps(self) -> int:
        """Of both phases."""
        return self.config.optim.steps + (self.config.adapt.adapt_steps or 0)


def plan(
    configs: Sequence[TrainConfig],
    root: Path,
    features: Path,
    num_processes: int = 1,
    report: Report = lambda done, of: None,
) -> list[PlannedRun]:
    """Every run of a study once, in its order, with its folder in `root`.

    Two configurations that resolve to the same run are one. A configuration that cannot be used is
    refused by itself; the others go on.
    """
    loaders = _shared_loaders()
    found: dict[Path, PlannedRun] = {}
    for number, config in enumerate(configs):
        planned = _plan_one(config, root, features, num_processes, loaders)
        found.setdefault(planned.folder.path, planned)
        report(number + 1, len(configs))
    return list(found.values())


def state_of(folder: RunFolder) -> tuple[State, str]:
    """How far a run is, and why it failed.

    One that was killed has not failed: it is as unfinished as if the machine had stopped.
    """
    if folder.finished:
        return "finished", ""
    if folder.failure.exists():
        failure = read_json(folder.failure, f"delete {folder.failure}")
        if not failure.get("killed"):
            return "failed", str(failure.get("what", ""))
    return ("unfinished" if folder.config.exists() else "new"), ""


def refused_folder(root: Path, asked: TrainConfig) -> RunFolder:
    """Where it is kept why a configuration was refused, whose run has no name."""
    return RunFolder(root / f"refused-{digest(stable_values(asked))}")


def _plan_one(
    asked: TrainConfig,
    root: Path,
    features: Path,
    num_processes: int,
    loaders: Mapping[str, Callable[..., Any]],
) -> PlannedRun:
    try:
        run = resolve(asked, num_processes, **loaders)
        folder = RunFolder.find(root, run.identity)
        state, failure = state_of(folder)
    except (ValueError, OSError) as error:
        what = " ".join(str(error).split())
        folder = refused_folder(root, asked)
        return PlannedRun(asked, asked, {}, folder, "refused", what, num_processes)
    to_embed = 0
    if run.config.model.inputs == "features":
        domains = (d for s in run.domain_set.all for d in (s.train, s.validation, s.test))
        paths = ((d, features_path(run.pretrained, d, features)) for d in domains)
        to_embed = sum(len(domain) for domain, path in paths if not path.exists())
    return PlannedRun(
        asked, run.config, dict(run.identity), folder, state, failure, num_processes, to_embed
    )


def _shared_loaders() -> dict[str, Callable[..., Any]]:
    """Loaders for `resolve` that read data and weights once for all runs that share them."""
    domains, classifier = cache(load_domains), cache(load_classifier)

    def model(name: str, *, fresh: bool, image_size: int | None, seed: int) -> PretrainedModel:
        seed = seed if fresh else 0  # pre-trained weights do not depend on it
        return classifier(name, fresh=fresh, image_size=image_size, seed=seed)

    return {"domains_loader": domains, "model_loader": model}


LIKENESS = (
    ("method", ("model", "from_scratch", "inputs", "trainable", "image_size", "method")),
    ("network", ("model", "from_scratch", "inputs", "trainable", "image_size")),
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


class CostEstimator:
    """Seconds per image of finished runs, by what they have in common."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._rates: dict[tuple[Any, ...], list[float]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Learn from a finished run's record."""
        config, cost = TrainConfig.from_record(record).flat(), record["cost"]
        num = cost["steps"] * _per_step(config, record["machine"]["num_processes"])
        if num:
            for likeness, names in LIKENESS:
                key = (likeness, *(config[name] for name in names))
                self._rates.setdefault(key, []).append(cost["elapsed_s"] / num)

    def estimate(self, planned: PlannedRun) -> Estimate:
        """The median rate of the most alike runs, for the images that this one will draw."""
        config = planned.config.flat()
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


def total_cost(estimates: Sequence[Estimate], num_workers: int) -> float:
    """Seconds until the last of the runs whose time is known ends, in the order of the study."""
    free = [0.0] * num_workers
    for estimate in estimates:
        place = free.index(min(free))
        free[place] += estimate.seconds or 0.0
    return max(free)


def describe_estimate(
    runs: Sequence[PlannedRun], estimates: Sequence[Estimate], num_workers: int
) -> list[str]:
    """The estimate of the runs that are left in sentences, with what is not known."""
    known = [estimate for estimate in estimates if estimate.seconds is not None]
    lines = []
    if known:
        lines.append(
            f"about {duration(total_cost(known, num_workers))} for {len(known)} runs in "
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
    return int(config["batch_size"] * config["gradient_accumulation_steps"] * num_processes)
