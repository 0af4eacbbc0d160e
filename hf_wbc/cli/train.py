"""`hf-wbc train`, and `accelerate launch train.py`: train, score, and leave a run folder."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.config import AUGMENTATIONS, FLAT_NAMES, GROUPS, RENAMED, TrainConfig
from hf_wbc.escape import print_plain
from hf_wbc.text import did_you_mean

if TYPE_CHECKING:
    from hf_wbc.records import RunFolder

Tracker = Literal["tensorboard", "trackio"]
COMMON = {
    "sources", "target", "method", "augmentation", "model", "inputs", "trainable", "steps",
    "batch_size", "learning_rate", "mixed_precision", "eval_steps", "selection", "seed",
    "output_dir", "config",
}  # fmt: skip
"""Flags that `--help` shows."""
RENAMED_FLAGS = {
    **{f"--{old}".replace("_", "-"): f"--{new}".replace("_", "-") for old, new in RENAMED.items()},
    "--out": "--output-dir",
    "--licence": "--license",
}


def train(
    config: TrainConfig,
    strength: Annotated[
        Literal["robust", "light", "none"], tyro.conf.arg(name="augmentation")
    ] = "robust",
    output_dir: KeptFolder = Path("runs"),
    like: Annotated[str | None, tyro.conf.arg(name="config", metavar="RUN")] = None,
    cache: KeptFolder = Path("build/features"),
    trackers: tuple[Tracker, ...] = (),
    push_to: str | None = None,
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    tag: str | None = None,
    license: str | None = None,
    card: Literal["refuse", "keep", "replace"] = "refuse",
) -> None:
    """Train a classifier on labeled sources; score it on every domain.

    Example: hf-wbc train --sources build/acevedo_20 --target build/matek_19 --method dann

    The same command resumes an interrupted run and does nothing when the run is finished.

    Args:
        config: What to train.
        strength: Random changes to training images: robust varies color, focus and scale widely,
            as laboratories do; flags such as --hue change single ranges.
        output_dir: Folder for the run folders.
        seed: Seed of weights, sample order and augmentation.
        like: Train as a published run did, org/name[@revision], or one in a folder; other flags
            override its values.
        cache: Folder for embedded features (--inputs features).
        trackers: Where to log the curves besides the run folder's history.jsonl.
        push_to: Publish on the Hub: checkpoints on the branch training-RUN, from which the same
            command resumes on another machine, and the model at the end. A folder gets the model.
        public: Make what is pushed public. Without this flag the images' license decides.
        private: Make what is pushed private.
        tag: The model's tag on the Hub; the next of v1, v2, ... by default.
        license: The model's license.
        card: What to do with a card that was edited on the Hub: refuse before training, keep its
            text, or replace it.
    """
    from hf_wbc.cli.display import TrainingDisplay
    from hf_wbc.engine.run import run
    from hf_wbc.hub.publication import is_public_requested

    seen = is_public_requested(public, private)
    requested = {"public": public, "private": private, "tag": tag, "license": license}
    _check_flags(config, push_to, {**requested, "card": card != "refuse"})
    push: Any = None
    with TrainingDisplay(config) as display:
        if push_to is not None and display.is_main:
            options = {"public": seen, "license": license, "tag": tag, "card": card}
            push = _training_push(push_to, display.on_event, options)
        folder = run(
            config, output_dir, cache, trackers, display.on_progress, push, display.on_stage
        )
        if push:
            push.finish(folder)
    if display.is_main:
        _print_outcome(config, folder)


def _check_flags(config: TrainConfig, push_to: str | None, requested: Mapping[str, Any]) -> None:
    """Report a flag without effect; ValueError for flags of publishing if nothing is published."""
    if config.data.allow_single:
        print("hf-wbc: --allow-single has no effect any more; leave it out", file=sys.stderr)
    given = [f"--{name}" for name, value in requested.items() if value]
    if given and push_to is None:
        raise ValueError(
            f"{', '.join(given)}: nothing is published without --push-to; add --push-to org/name, "
            f"or leave {'them' if len(given) > 1 else 'it'} out"
        )


def _training_push(
    push_to: str, on_event: Callable[[str], None], options: Mapping[str, Any]
) -> Any:
    """Return what publishes the run while it trains."""
    import dataset_scripts
    from hf_wbc.hub.publication import parse_destination
    from hf_wbc.hub.training_push import TrainingPush

    destination = parse_destination(push_to, "model")
    return TrainingPush(destination, dataset_scripts.known(), on_event, **options)


def _print_outcome(config: TrainConfig, folder: "RunFolder") -> None:
    """Print the scores, and the notes on images and label shift."""
    from hf_wbc.cli.display import print_results

    record = folder.read_record()
    print_results(folder.path, record["results"])
    for note in record.get("notes", ()):
        print_plain(f"note: {note}")
    shifts = record["label_shift"].values() if config.eval.correct_priors != "none" else ()
    for note in (record["images"]["note"], *(shift["note"] for shift in shifts)):
        if note:
            print_plain(note)


def build_command(arguments: Sequence[str]) -> Callable[..., None]:
    """`train` as tyro parses it: a group of flags for each group of `TrainConfig`.

    Defaults are those of the run that `--config` names, if any.
    """
    named = _value("--augmentation", arguments)
    if named is not None and named not in AUGMENTATIONS:
        raise ValueError(f"--augmentation {named}: {did_you_mean(named, AUGMENTATIONS)}")
    ref = _value("--config", arguments)
    published = None
    if ref is not None:
        from hf_wbc.hub.publish_model import published_config, require_locations

        published = published_config(ref)

    def command(seed: int, **values: Any) -> None:
        flat: dict[str, Any] = {"seed": seed}
        for name, (group, inner) in FLAT_NAMES.items():
            flat[name] = getattr(values[group], inner)
        try:
            config = TrainConfig(**flat)
        except ValueError as error:  # as where tyro finds the error
            print_plain(f"hf-wbc train: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        if published is not None:
            if config.adapt.method == published.adapt.method:
                options = {**published.adapt.method_options, **config.adapt.method_options}
                config = config.replace(method_options=options)
            require_locations(config, str(ref))
        others = {name: value for name, value in values.items() if name not in GROUPS}
        train(config, **others)

    parameters = []
    for each in inspect.signature(train).parameters.values():
        if each.name == "config":
            parameters += _config_parameters(published, named)
        else:
            parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = train.__doc__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _config_parameters(
    published: TrainConfig | None, augmentation: str | None
) -> list[inspect.Parameter]:
    """One parameter for each group of `TrainConfig`, and one for the seed.

    Args:
        published: The configuration that gives the defaults.
        augmentation: Name of the augmentation whose ranges are the defaults.
    """
    parameters = []
    for group in GROUPS:
        view = _flags(group, augmentation)
        parameter = inspect.Parameter(group, inspect.Parameter.KEYWORD_ONLY, annotation=view)
        if published:
            values = vars(getattr(published, group))
            if group == "data" and augmentation:
                values = {**values, "augmentation": AUGMENTATIONS[augmentation]}
            if group == "adapt":  # tyro would make a flag of each option
                values = {**values, "method_options": {}}
            parameter = parameter.replace(default=view(**values))
        parameters.append(parameter)
    seed = published.seed if published else 0
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [*parameters, inspect.Parameter("seed", keyword, annotation=int, default=seed)]


def _flags(group: str, augmentation: str | None) -> type[Any]:
    """A group's class with the names of flags."""
    cls, specs = GROUPS[group], []
    flags = {inner: flat for flat, (of, inner) in FLAT_NAMES.items() if of == group}
    for each in fields(cls):
        kind: Any = each.type
        if flags[each.name] != each.name:
            kind = Annotated[kind, tyro.conf.arg(name=flags[each.name])]
        default = _copy(each)
        if each.name == "augmentation" and augmentation:
            default = field(default=AUGMENTATIONS[augmentation])
        specs.append((each.name, kind, default))
    made = make_dataclass(cls.__name__, specs, bases=(cls,), frozen=True)
    made.__module__, made.__doc__ = __name__, cls.__doc__
    return made


def _copy(one: Any) -> Any:
    """A dataclass field with another one's default."""
    if one.default_factory is not MISSING:
        return field(default_factory=one.default_factory)
    return field() if one.default is MISSING else field(default=one.default)


def _value(flag: str, arguments: Sequence[str]) -> str | None:
    """What follows a flag, the last time that it is given."""
    found = None
    for place, word in enumerate(arguments):
        name, has_value, value = word.partition("=")
        if name == flag:
            found = value if has_value else next(iter(arguments[place + 1 :]), None)
    return found
