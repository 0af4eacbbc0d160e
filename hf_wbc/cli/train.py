"""`hf-wbc train`, and `accelerate launch train.py`: train, score, and leave a run folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hf_wbc.config import TrainConfig

Tracker = Literal["tensorboard", "trackio"]


def train(
    config: TrainConfig,
    out: Path = Path("runs"),
    cache: Path = Path("build/features"),
    trackers: tuple[Tracker, ...] = (),
    like: Annotated[str | None, tyro.conf.arg(name="config", metavar="RUN")] = None,
    push_to: str | None = None,
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    tag: str | None = None,
    licence: str | None = None,
    card: Literal["refuse", "keep", "replace"] = "refuse",
) -> None:
    """Train a classifier on labelled sources and score it on every domain.

    The same command continues a run that was interrupted, and does nothing when it is finished.

    Args:
        config: What to train.
        out: Where run folders lie; a run's name is the digest of its configuration and data.
        cache: Where embedded features are kept (--inputs features).
        trackers: Where the curves go besides the run folder's history.jsonl.
        like: Train as a published run did, org/name[@revision], or one in a folder; other flags
            change what they say.
        push_to: Publish on the Hub: checkpoints on the branch training-RUN, from which the same
            command goes on elsewhere, and the model at the end. A folder gets the model.
        public: Let anybody see what is pushed. Otherwise the licence of the images decides.
        private: Let nobody see it but its owners.
        tag: The model's tag there; the next of v1, v2 and so on when not given.
        licence: The model's licence.
        card: What to do about a card that was edited there: refuse, before anything is trained,
            keep its text, or replace it.
    """
    from hf_wbc.cli.display import TrainingDisplay, print_results
    from hf_wbc.engine.run import run
    from hf_wbc.hub.publication import is_public_requested

    seen = is_public_requested(public, private)
    if push_to is None:
        asked = {"public": public, "private": private, "tag": tag, "licence": licence}
        asked["card"] = card != "refuse"
        if given := [f"--{name}" for name, value in asked.items() if value]:
            raise ValueError(
                f"{', '.join(given)}: about what is published, and nothing is; add --push-to "
                "org/name, or leave it out"
            )
    push: Any = None
    with TrainingDisplay(config) as display:
        if push_to is not None and display.is_main:
            import dataset_scripts
            from hf_wbc.hub.publication import parse_destination
            from hf_wbc.hub.training_push import TrainingPush

            push = TrainingPush(
                parse_destination(push_to, "model"),
                dataset_scripts.known(),
                display.say,
                public=seen,
                licence=licence,
                tag=tag,
                card=card,
            )
        folder = run(config, out, cache, trackers, display.report, push)
        if push:
            push.finish(folder)
    if display.is_main:
        record = folder.read_record()
        print_results(folder.path, record["results"])
        shifts = record["label_shift"].values() if config.correct_priors != "none" else ()
        for note in (record["images"]["note"], *(shift["note"] for shift in shifts)):
            if note:
                print(note)


def config_defaults(arguments: Sequence[str]) -> Callable[..., None]:
    """`train` with the defaults of the run that `--config` names, where it names one."""
    import functools
    import inspect
    from dataclasses import replace

    ref = _value("--config", arguments)
    if ref is None:
        return train
    from hf_wbc.hub.publish_model import published_config, require_locations

    published = published_config(ref)

    @functools.wraps(train)
    def like_it(config: TrainConfig, *more: Any, **named: Any) -> None:
        if config.method == published.method:
            options = {**published.method_options, **config.method_options}
            config = replace(config, method_options=options)
        require_locations(config, ref)
        train(config, *more, **named)

    signature = inspect.signature(train)
    default = replace(published, method_options={})  # tyro would make a flag of each option in it
    parameters = [
        each.replace(default=default) if each.name == "config" else each
        for each in signature.parameters.values()
    ]
    like_it.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return like_it


def _value(flag: str, arguments: Sequence[str]) -> str | None:
    """What follows a flag, the last time that it is given."""
    found = None
    for place, word in enumerate(arguments):
        name, has_value, value = word.partition("=")
        if name == flag:
            found = value if has_value else next(iter(arguments[place + 1 :]), None)
    return found
