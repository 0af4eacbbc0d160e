"""Plan a study without training: the folder, state and estimated time of every run.

Data and weights are read once for all runs that share them. Times are estimated from finished runs
with similar settings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from hf_wbc.config import TrainConfig
from hf_wbc.engine.domains import load_domains
from hf_wbc.engine.features import missing_features
from hf_wbc.engine.resolve import resolve, stable_values
from hf_wbc.models import PretrainedModel, load_classifier
from hf_wbc.record_schema import check_training_record
from hf_wbc.records import RunFolder, digest, read_json
from hf_wbc.text import duration

State = Literal["finished", "unfinished", "new", "failed", "refused"]
"""State of a run; `refused` means that its configuration, data or model cannot be used."""
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    requested: TrainConfig
    config: TrainConfig
    """The resolved configuration; the original one if the run was refused."""
    identity: dict[str, Any]
    """Determines the folder's name; empty if the run was refused."""
    folder: RunFolder
    state: State
    failure: str = ""
    """Why the run failed or was refused."""
    num_processes: int = 1
    num_to_embed: int = 0
    """Number of images whose features still have to be extracted."""

    @property
    def direction(self) -> str:
        """Sources and targets, such as `acevedo_20 -> matek_19`."""
        sources, targets, held_out = (
            "+".join(Path(ref.partition("@")[0]).name for ref in refs)
            for refs in (
                self.requested.data.sources,
                self.requested.data.target,
                self.requested.data.held_out,
            )
        )
        direction = f"{sources} -> {targets}" if targets else sources
        return f"{direction} ({held_out} selects)" if held_out else direction

    @property
    def network(self) -> str:
        """The model's name without path and revision."""
        return Path(self.requested.model.name.partition("@")[0]).name

    @property
    def name(self) -> str:
        """Method, direction and seed, for display."""
        return f"{self.requested.adapt.method}  {self.direction}  seed {self.requested.seed}"

    @property
    def num_steps(self) -> int:
        """Number of steps of both phases."""
        return self.config.optim.steps + (self.config.adapt.adapt_steps or 0)


def plan(
    configs: Sequence[TrainConfig],
    root: Path,
    features: Path,
    num_processes: int = 1,
    report: Report = lambda done, of: None,
) -> list[PlannedRun]:
    """Plan every run of a study, in its order.

    Configurations that resolve to the same run are merged. A configuration that cannot be used is
    marked as refused; the others are not affected.

    Args:
        configs: Configurations of the study.
        root: Folder that contains the run folders.
        features: Folder for extracted features.
        num_processes: Processes that train each run together.
        report: Called with the number of configurations planned, and the total.
    """
    loaders = _shared_loaders()
    found: dict[Path, PlannedRun] = {}
    for number, config in enumerate(configs):
        planned = _plan_one(config, root, features, num_processes, loaders)
        found.setdefault(planned.folder.path, planned)
        report(number + 1, len(configs))
    return list(found.values())


def state_of(folder: RunFolder) -> tuple[State, str]:
    """Return the state of a run, and why it failed.

    A killed run has not failed: it is unfinished, as if the machine had stopped.
    """
    if folder.finished:
        return "finished", ""
    if folder.failure.exists():
        failure = read_json(folder.failure, f"delete {folder.failure}")
        if not failure.get("killed"):
            return "failed", str(failure.get("what", ""))
    return ("unfinished" if folder.config.exists() else "new"), ""


def refused_folder(root: Path, requested: TrainConfig) -> RunFolder:
    """Return the folder that stores why a configuration was refused, since its run has no name."""
    return RunFolder(root / f"refused-{digest(stable_values(requested))}")


def _plan_one(
    requested: TrainConfig,
    root: Path,
    features: Path,
    num_processes: int,
    loaders: Mapping[str, Callable[..., Any]],
) -> PlannedRun:
    try:
        run = resolve(requested, num_processes, features, **loaders)
        folder = RunFolder.find(root, run.identity)
        state, failure = state_of(folder)
    except (ValueError, OSError) as error:
        what = " ".join(str(error).split())
        folder = refused_folder(root, requested)
        return PlannedRun(requested, requested, {}, folder, "refused", what, num_processes)
    to_embed = 0
    if run.config.model.inputs == "features":
        to_embed = missing_features(run.config, run.pretrained, run.domain_set, features)
    return PlannedRun(
        requested, run.config, dict(run.identity), folder, state, failure, num_processes, to_embed
    )


def _shared_loaders() -> dict[str, Callable[..., Any]]:
    """Return loaders for `resolve` that cache data and weights across runs."""
    domains, classifier = cache(load_domains), cache(load_classifier)

    def model(name: str, *, fresh: bool, image_size: int | None, seed: int) -> PretrainedModel:
        seed = seed if fresh else 0  # pre-trained weights do not depend on the seed
        return classifier(name, fresh=fresh, image_size=image_size, seed=seed)

    return {"domains_loader": domains, "model_loader": model}


LIKENESS = (
    ("method", ("model", "from_scratch", "inputs", "trainable", "image_size", "method")),
    ("network", ("model", "from_scratch", "inputs", "trainable", "image_size")),
    ("inputs", ("inputs", "trainable", "image_size")),
)
"""Settings that a measured run must share with the estimated one; most similar first."""
WORDS = {
    "method": "the same network, inputs and method",
    "network": "the same network and inputs, other methods",
    "inputs": "the same inputs, other networks",
    "": "no measurements",
}


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of a run in one worker, and what the estimate is based on.

    `seconds` is None if no similar run has been measured.
    """

    seconds: float | None
    likeness: str
    """A key of `WORDS`."""
    num_measured: int = 0


class CostEstimator:
    """Seconds per image of finished runs, grouped by shared settings."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._rates: dict[tuple[Any, ...], list[float]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add the record of a finished run."""
        config, cost = TrainConfig.from_record(record).flat(), record["cost"]
        num = cost["steps"] * _per_step(config, record["machine"]["num_processes"])
        if num:
            for likeness, names in LIKENESS:
                key = (likeness, *(config[name] for name in names))
                self._rates.setdefault(key, []).append(cost["elapsed_s"] / num)

    def estimate(self, planned: PlannedRun) -> Estimate:
        """Estimate a run's time from its images and the median rate of the most similar runs."""
        config = planned.config.flat()
        num = planned.num_steps * _per_step(config, planned.num_processes)
        for likeness, names in LIKENESS:
            rates = self._rates.get((likeness, *(config[name] for name in names)))
            if rates:
                return Estimate(median(rates) * num, likeness, len(rates))
        return Estimate(None, "")


def read_records(root: Path) -> list[dict[str, Any]]:
    """Read the records of finished training runs in a folder; damaged ones are skipped."""
    found = []
    for path in sorted(root.glob("*/record.json")):
        try:
            record = RunFolder(path.parent).read_record()
            if record.get("kind") == "training":
                check_training_record(record)
                found.append(record)
        except (OSError, ValueError):  # reported by `hf-wbc compare`
            continue
    return found


def total_cost(estimates: Sequence[Estimate], num_workers: int) -> float:
    """Return the seconds until the last run with a known time finishes, in the study's order."""
    free = [0.0] * num_workers
    for estimate in estimates:
        place = free.index(min(free))
        free[place] += estimate.seconds or 0.0
    return max(free)


def describe_estimate(
    runs: Sequence[PlannedRun], estimates: Sequence[Estimate], num_workers: int
) -> list[str]:
    """Describe the estimate for the remaining runs in sentences, including what is unknown."""
    known = [estimate for estimate in estimates if estimate.seconds is not None]
    lines = []
    if known:
        lines.append(
            f"about {duration(total_cost(known, num_workers))} for {len(known)} runs in "
            f"{num_workers} worker{'s' if num_workers > 1 else ''}"
        )
        for likeness, description in WORDS.items():
            if num := sum(estimate.likeness == likeness for estimate in known):
                lines.append(f"{num} estimated from runs with {description}")
    if num := len(estimates) - len(known):
        lines.append(f"unknown: {num} runs, because no similar run has been measured here")
    if num := max((run.num_to_embed for run in runs), default=0):
        lines.append(f"not included: at least {num:,} images that have not been embedded yet")
    return lines


def _per_step(config: Mapping[str, Any], num_processes: int) -> int:
    return int(config["batch_size"] * config["gradient_accumulation_steps"] * num_processes)
