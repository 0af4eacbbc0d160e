"""Scores of models in laboratories that they were not trained on, one JSON line each.

The lines are collected from run folders (`results` of their records) and from the evaluations of
their models (`hf-wbc evaluate`). They hold no path of the machine that made them.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_wbc.config import AUGMENTATIONS, TrainConfig
from hf_wbc.config_groups import Augmentation
from hf_wbc.data.schema import SPLITS
from hf_wbc.inference.combine import COMBINATION_FILE
from hf_wbc.models.pretrained import fetch_checkpoint
from hf_wbc.records import RunFolder, atomic_replace, read_json
from hf_wbc.taxonomy import NAMES

__all__ = [
    "LaboratoryScore",
    "collect_scores",
    "merge_scores",
    "read_scores",
    "training_command",
    "write_scores",
]


@dataclass(frozen=True)
class LaboratoryScore:
    """Score of one model on the cells of one laboratory."""

    row: str
    """Name of the row, such as `robust + adabn`; rows are means over seeds."""
    sources: tuple[str, ...]
    """Laboratories whose labels the model was trained on."""
    laboratory: str
    """The scored laboratory."""
    images: str
    """The scored images: all, or splits joined by +."""
    num_images: int
    classes: tuple[str, ...]
    """Classes that count, in the order of the taxonomy."""
    merge: tuple[str, ...]
    """Classes scored as one, as FROM=INTO."""
    seed: int | None
    """None for a combination of several seeds."""
    macro_f1: float
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    network: str
    budget: str
    """Training steps, batch size and image size."""
    run: str
    """Names of the training runs, joined by +."""
    command: str
    """What repeats the score, with data in `build` and runs in `runs`."""
    docs_only: bool = False
    """Whether the row is left out of README, such as the rows of an ablation."""

    @property
    def is_home(self) -> bool:
        """Whether the scored laboratory is a source."""
        return self.laboratory in self.sources

    @property
    def column(self) -> tuple[str, str, int, tuple[str, ...], tuple[str, ...]]:
        """What was scored; scores of different columns cannot be compared."""
        return self.laboratory, self.images, self.num_images, self.classes, self.merge


def read_scores(path: Path) -> list[LaboratoryScore]:
    """Read the lines of a file; an absent file has none.

    Raises:
        ValueError: If a line is damaged.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            lists = {name: tuple(values[name]) for name in ("sources", "classes", "merge")}
            found.append(LaboratoryScore(**{**values, **lists}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from error
    return found


def write_scores(path: Path, scores: Sequence[LaboratoryScore]) -> None:
    """Write one line for each score."""
    lines = [json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in scores]
    with atomic_replace(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def merge_scores(
    old: Sequence[LaboratoryScore], new: Sequence[LaboratoryScore]
) -> list[LaboratoryScore]:
    """Return the old scores, replaced by new ones of the same row, run and column, and the rest."""

    def key(score: LaboratoryScore) -> tuple[Any, ...]:
        return score.row, score.run, score.column

    found = {key(each): each for each in old}
    return list((found | {key(each): each for each in new}).values())


def collect_scores(
    row: str,
    models: Sequence[Path],
    evaluations: Sequence[Path] = (),
    docs_only: bool = False,
) -> list[LaboratoryScore]:
    """Return the scores of trained models in all laboratories.

    A run's record gives the scores of its targets (all of their images), or without a target those
    of a single source (its test images). Evaluations of its model give further ones, and replace
    the run's own in the same laboratory, whose classes they may score otherwise.

    Args:
        row: Name of the row.
        models: Run folders, or combinations (`hf-wbc combine`) whose members stand beside them or
            where their record says.
        evaluations: Folders that contain evaluations; those of other models are ignored.
        docs_only: Whether to leave the row out of README.

    Raises:
        ValueError: If a folder is neither a finished run nor a combination, or has no scores.
    """
    found: list[LaboratoryScore] = []
    for path in models:
        trained = _describe(path)
        facts = {"row": row, "docs_only": docs_only, **trained.facts}
        evaluated = list(_evaluation_scores(path, trained, evaluations, facts))
        places = {score.laboratory for score in evaluated}
        own = (score for score in _run_scores(trained, facts) if score.laboratory not in places)
        scores = [*own, *evaluated]
        if not scores:
            raise ValueError(
                f"{path} has no scores in other laboratories; score its model with hf-wbc evaluate "
                "and name the folder of the evaluations with --evaluations"
            )
        found += scores
    return found


@dataclass(frozen=True)
class _Trained:
    """A run or a combination of runs."""

    facts: Mapping[str, Any]
    """The fields of `LaboratoryScore` that do not depend on what is scored."""
    results: Mapping[str, Any]
    """Results of the run's record by domain; none for a combination."""
    model: str
    """Path of the model in commands."""
    is_combination: bool = False


def _describe(path: Path) -> _Trained:
    """Return the facts of a run folder, or of a combination."""
    if not (path / COMBINATION_FILE).exists():
        return _describe_run(path)
    made = read_json(path / COMBINATION_FILE)
    members = [_member_run(path, str(each["name"])) for each in made["members"]]
    runs = [_describe_run(each) for each in members]
    name, sources = f"runs/{path.name}", made["scored_on"]
    arguments = ["hf-wbc", "combine", *(f"runs/{each.name}/model" for each in members)]
    arguments += ["--sources", *(f"build/{source}" for source in sources), "--how", made["how"]]
    if made["weights"]:
        arguments += ["--weights", *map(str, made["weights"])]
    facts = {
        "sources": tuple(sources),
        "seed": None,
        "network": " + ".join(dict.fromkeys(str(each.facts["network"]) for each in runs)),
        "budget": f"{len(runs)} x ({_once(str(each.facts['budget']) for each in runs)})",
        "run": "+".join(each.name for each in members),
        "command": shlex.join([*arguments, "--out", name]),
    }
    return _Trained(facts, {}, name, is_combination=True)


def _member_run(combination: Path, name: str) -> Path:
    """Return the run folder of a combination's member, wherever the command found it."""
    model = Path(name)
    places = (model, combination / model, *(up / model for up in combination.absolute().parents))
    for place in places:
        if RunFolder(place.parent).finished:
            return place.parent
    raise ValueError(f"{combination} combines {name}, which is not the model of a finished run")


def _describe_run(path: Path) -> _Trained:
    """Return the facts of a run folder.

    Raises:
        ValueError: If it is not a finished run.
    """
    folder = RunFolder(path)
    record = folder.read_record()
    if record.get("kind") != "training":
        raise ValueError(f"{path} is not a run folder; name one, or a folder of hf-wbc combine")
    config = TrainConfig.from_record(record)
    requested = TrainConfig.from_dict(read_json(folder.config, folder.remedy)["config"])
    names = {domain["ref"]: domain["name"] for domain in _domains(record)}
    how = "frozen, " if config.model.inputs == "features" else ""
    size, optim = config.model.image_size, config.optim
    facts = {
        "sources": tuple(domain["name"] for domain in record["sources"]),
        "seed": config.seed,
        "network": Path(str(record["model"]["name"]).partition("@")[0]).name,
        "budget": f"{how}{optim.steps} x {optim.images_per_step} at {size} px",
        "run": record["run"],
        "command": training_command(requested, names),
    }
    return _Trained(facts, record["results"], f"runs/{record['run']}/model")


def _once(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _domains(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for role in ("sources", "target", "held_out"):
        yield from record[role]


def _run_scores(trained: _Trained, facts: Mapping[str, Any]) -> Iterator[LaboratoryScore]:
    """Yield the scores in a run's own record."""
    roles = [entry["role"] for entry in trained.results.values()]
    for domain, entry in trained.results.items():
        if roles == ["source"] and entry.get("test"):
            yield _score(facts, domain, "test", entry["test"])
        elif entry["role"] == "target" and entry.get("transductive"):
            yield _score(facts, domain, "all", entry["transductive"])


def _evaluation_scores(
    path: Path, trained: _Trained, folders: Sequence[Path], facts: Mapping[str, Any]
) -> Iterator[LaboratoryScore]:
    """Yield the scores of a model's evaluations."""
    revision = fetch_checkpoint(str(path if trained.is_combination else path / "model")).revision
    for folder in folders:
        for file in sorted(folder.rglob("record.json")):
            record = RunFolder(file.parent).read_record()
            if record.get("kind") != "evaluation" or record["model"]["revision"] != revision:
                continue
            splits, laboratory = record["splits"], record["data"]["name"]
            images = "all" if set(splits) == set(SPLITS) else "+".join(splits)
            arguments = ["hf-wbc", "evaluate", trained.model, f"build/{laboratory}"]
            arguments += ["--splits", *splits]
            for option in ("merge", "classes"):
                if record["scores"][option]:
                    arguments += [f"--{option}", *record["scores"][option]]
            if record["data"]["um_per_px"] is None:
                arguments.append("--allow-unscaled")
            commands, row = [str(facts["command"])], str(facts["row"])
            if (vote := record.get("neighbors")) is not None:
                num = str(vote["num_neighbors"])
                row = f"{row}, {num} nearest of {vote['num_cells']:,} cells"
                commands.append(_reference_command(trained.model, vote))
                arguments += ["--neighbors", num]
            command = " && ".join([*commands, shlex.join(arguments)])
            found = {**facts, "row": row, "command": command}
            yield _score(found, laboratory, images, record["scores"])


def _reference_command(model: str, vote: Mapping[str, Any]) -> str:
    """Return the command that builds the reference cells that voted in an evaluation."""
    arguments = ["hf-wbc", "reference", model, *(f"build/{each}" for each in vote["sources"])]
    return shlex.join([*arguments, "--per-class", str(vote["per_class"])])


def _score(
    facts: Mapping[str, Any], laboratory: str, images: str, scores: Mapping[str, Any]
) -> LaboratoryScore:
    low, high = scores["intervals"]["macro_f1"]
    return LaboratoryScore(
        laboratory=laboratory,
        images=images,
        num_images=scores["num_images"],
        classes=tuple(name for name in NAMES if name in scores["per_class"]),
        merge=tuple(scores["merge"]),
        macro_f1=round(scores["macro_f1"], 4),
        low=round(low, 4),
        high=round(high, 4),
        **facts,
    )


def training_command(config: TrainConfig, names: Mapping[str, str]) -> str:
    """Return the `hf-wbc train` command of a configuration, without paths of this machine.

    Args:
        config: The configuration as the user specified it.
        names: Name of each domain by where it is stored; it is expected in `build`.
    """
    plain, arguments = TrainConfig(sources=config.data.sources).flat(), ["hf-wbc", "train"]
    for name, value in config.flat().items():
        if name == "augmentation" and value != plain[name]:
            arguments += _augmentation_flags(config.data.augmentation)
        elif name in ("sources", "target", "held_out") and value:
            arguments += [
                _flag(name),
                *(f"build/{names.get(ref, Path(ref).name)}" for ref in value),
            ]
        elif name == "target_labels" and value:
            arguments += [_flag(name), Path(value).name]
        elif name == "model" and Path(value).is_absolute():
            arguments += ["--model", f"weights/{Path(value).name}"]
        elif name != "allow_single" and value != plain[name]:
            arguments += _flag_and_value(name, value)
    return shlex.join(arguments)


def _augmentation_flags(strength: Augmentation) -> list[str]:
    """Return the nearest named strength, and a flag for each field that differs from it."""

    def differences(name: str) -> dict[str, Any]:
        values = asdict(AUGMENTATIONS[name])
        return {k: v for k, v in asdict(strength).items() if v != values[k]}

    nearest = min(AUGMENTATIONS, key=lambda name: len(differences(name)))
    arguments = ["--augmentation", nearest]
    for field, value in differences(nearest).items():
        arguments += _flag_and_value(field, value)
    return arguments


def _flag_and_value(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [_flag(name if value else f"no-{name}")]
    if isinstance(value, dict):
        return [_flag(name), *(str(word) for pair in value.items() for word in pair)]
    return [_flag(name), *(map(str, value) if isinstance(value, list) else [str(value)])]


def _flag(name: str) -> str:
    return f"--{name}".replace("_", "-")
