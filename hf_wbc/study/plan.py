"""What a study will do: the folder of every run, found out without training, and how far it is.

Data and weights are read once for all runs that share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hf_wbc.config import TrainConfig
from hf_wbc.engine.domains import Corpus, load_corpus
from hf_wbc.engine.features import features_path
from hf_wbc.engine.resolve import check, identify, resolved, with_recipe
from hf_wbc.models import Loaded, load_classifier
from hf_wbc.records import RunFolder, digest, read_json

State = Literal["finished", "unfinished", "new", "failed", "refused"]
"""`refused`: the configuration, its data or its model cannot be used, and nothing was trained."""
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Planned:
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
            for refs in (self.asked.sources, self.asked.target, self.asked.held_out)
        )
        direction = f"{sources} -> {targets}" if targets else sources
        return f"{direction} ({held_out} selects)" if held_out else direction

    @property
    def network(self) -> str:
        """The model's name without a path or a revision."""
        return Path(self.asked.model.partition("@")[0]).name

    @property
    def name(self) -> str:
        """Method, direction and seed, for a reader."""
        return f"{self.asked.method}  {self.direction}  seed {self.asked.seed}"

    @property
    def num_steps(self) -> int:
        """Of both phases."""
        return self.config.steps + (self.config.adapt_steps or 0)


def plan(
    configs: Sequence[TrainConfig],
    root: Path,
    features: Path,
    num_processes: int = 1,
    report: Report = lambda done, of: None,
) -> list[Planned]:
    """Every run of a study once, in its order, with its folder in `root`.

    Two configurations that resolve to the same run are one. A configuration that cannot be used is
    refused by itself; the others go on.
    """
    corpus_of, model_of = cache(_corpus), cache(load_classifier)
    found: dict[Path, Planned] = {}
    for number, config in enumerate(configs):
        planned = _plan_one(config, root, features, num_processes, corpus_of, model_of)
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
    return RunFolder(root / f"refused-{digest(asked.to_dict())}")


def _plan_one(
    asked: TrainConfig,
    root: Path,
    features: Path,
    num_processes: int,
    corpus_of: Callable[..., Corpus],
    model_of: Callable[..., Loaded],
) -> Planned:
    try:
        method = check(asked)
        config = with_recipe(asked, method.recipe)
        corpus = corpus_of(
            config.sources, config.target, config.held_out, config.merge, config.classes,
            config.allow_unscaled, config.allow_single,
        )  # fmt: skip
        seed = config.seed if config.fresh else 0  # which names no other weights
        loaded = model_of(config.model, fresh=config.fresh, image_size=config.image_size, seed=seed)
        config = resolved(config, method, loaded, corpus, num_processes)
        identity = identify(config, corpus, loaded.revision, num_processes)
        folder = RunFolder.find(root, identity)
        state, failure = state_of(folder)
    except (ValueError, OSError) as error:
        what = " ".join(str(error).split())
        folder = refused_folder(root, asked)
        return Planned(asked, asked, {}, folder, "refused", what, num_processes)
    to_embed = 0
    if config.inputs == "features":
        domains = (d for s in corpus.all for d in (s.train, s.validation, s.test))
        to_embed = sum(len(d) for d in domains if not features_path(loaded, d, features).exists())
    return Planned(asked, config, identity, folder, state, failure, num_processes, to_embed)


def _corpus(
    sources: tuple[str, ...],
    target: tuple[str, ...],
    held_out: tuple[str, ...],
    merge: tuple[str, ...],
    classes: tuple[str, ...],
    allow_unscaled: bool,
    allow_single: bool,
) -> Corpus:
    """All that a corpus depends on, so that runs that agree in it share one."""
    return load_corpus(
        TrainConfig(
            sources=sources,
            target=target,
            held_out=held_out,
            merge=merge,
            classes=classes,
            allow_unscaled=allow_unscaled,
            allow_single=allow_single,
        )
    )
