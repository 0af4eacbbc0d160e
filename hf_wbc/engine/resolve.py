"""From what the user asked for to what will be done: recipes, defaults, and what cannot be.

Everything is checked here, before anything is trained.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from typing import Any

from hf_wbc.adaptation import Method, load_method
from hf_wbc.config import TrainConfig
from hf_wbc.data.augment import check_strength
from hf_wbc.engine.domains import DomainSet
from hf_wbc.evaluation.model_selection import require_selection_rule, selection_rule
from hf_wbc.models import Classifier, PretrainedModel

BOTTLENECK = 256
"""Width on embedded features, as in the reference library of most methods."""
ADAPT_LR = 0.1
"""Rate of a second phase as a fraction of the first one's."""


def check_config(config: TrainConfig) -> type[Method]:
    """The method of a configuration; ValueError for what no data is needed to refuse."""
    method = load_method(config.method)
    method.parse(config.method_options)
    check_strength(config.augmentation)
    if method.sees_target() and not config.target:
        raise ValueError(f"{config.method} adapts to a target; name one with --target")
    if method.needs.images and config.inputs == "features":
        raise ValueError(f"{config.method} needs images; leave out --inputs features")
    if len(config.sources) < method.needs.num_sources:
        raise ValueError(
            f"{config.method} compares {method.needs.num_sources} sources or more, and "
            f"{len(config.sources)} is given; name more with --sources"
        )
    if config.correct_priors != "none" and len(config.target) != 1:
        raise ValueError(
            f"correct_priors {config.correct_priors} makes a model for one target, and "
            f"{len(config.target)} are given; name one with --target, or leave it at none"
        )
    if config.logit_adjustment and config.balance == "class_domain":
        raise ValueError(
            f"logit_adjustment {config.logit_adjustment} and balance class_domain would correct "
            "for the class proportions twice; use --balance none, or leave one of them out"
        )
    if config.adapt_steps and not method.adapt_passes:
        raise ValueError(f"{config.method} has no second phase; leave out --adapt-steps")
    if config.adapt_steps == 0 and method.adapt_passes:
        raise ValueError(
            f"{config.method} adapts in its second phase, and adapt_steps is 0; leave out "
            "--adapt-steps for one pass, or use --method source_only"
        )
    require_selection_rule(
        selection_rule(config.selection),
        has_target=bool(config.target),
        has_held_out=bool(config.held_out),
        oracle=config.oracle,
    )
    if config.oracle and not config.target:
        raise ValueError("oracle scores target labels; name a target with --target")
    return method


def check_batches(config: TrainConfig, num_processes: int) -> None:
    """ValueError for batches in which a source would be missing, or whose norm has no variance."""
    size = config.batch_size * num_processes
    for what, domains in (("sources", config.sources), ("targets", config.target)):
        if size < len(domains):
            raise ValueError(
                f"batch_size {config.batch_size} x {num_processes} processes is {size}, fewer than "
                f"the {len(domains)} {what}; raise --batch-size"
            )
    if config.bottleneck and config.batch_size < 2:
        raise ValueError(
            "a bottleneck standardises over the batch, and one image has no variance; "
            "raise --batch-size, or use --bottleneck 0"
        )


def require_moving_features(method: type[Method], classifier: Classifier) -> None:
    """ValueError for a method that moves features where nothing before the head learns."""
    head = {id(parameter) for parameter in classifier.head.parameters()}
    if method.needs.features and all(
        id(p) in head for p in classifier.parameters() if p.requires_grad
    ):
        raise ValueError(
            f"{method.name()} moves features, and nothing before the head learns here; use "
            "--trainable full, or --bottleneck 256"
        )


def with_config_overrides(config: TrainConfig, recipe: Mapping[str, Any]) -> TrainConfig:
    """The configuration with a method's recipe where the user left a field at its default."""
    inner = _where_default(config.augmentation, recipe.get("augmentation", {}))
    outer = {name: value for name, value in recipe.items() if name != "augmentation"}
    augmentation = replace(config.augmentation, **inner)
    return replace(config, augmentation=augmentation, **_where_default(config, outer))


def resolve_defaults(
    config: TrainConfig,
    method: type[Method],
    loaded: PretrainedModel,
    corpus: DomainSet,
    num_processes: int,
) -> TrainConfig:
    """Every default that depends on method, model or data replaced, as the record tells it."""
    is_features = config.inputs == "features"
    per_step = config.batch_size * config.accumulation * num_processes
    num_target = sum(len(splits.train) for splits in corpus.targets)
    passes = math.ceil(method.adapt_passes * num_target / per_step)
    is_frozen = is_features or config.trainable == "frozen"
    default = BOTTLENECK if is_frozen else 0
    config = replace(
        config,
        method_options=asdict(method.parse(config.method_options)),
        image_size=loaded.preprocessing.size,
        trainable="frozen" if is_features else config.trainable,
        bottleneck=default if config.bottleneck is None else config.bottleneck,
        adapt_steps=passes if config.adapt_steps is None else config.adapt_steps,
        adapt_lr=ADAPT_LR * config.lr if config.adapt_lr is None else config.adapt_lr,
    )
    check_batches(config, num_processes)
    return config


def run_identity(
    config: TrainConfig, corpus: DomainSet, revision: str, num_processes: int
) -> dict[str, Any]:
    """What decides the result of a run, whose digest names its folder.

    `config` is resolved; data and weights stand for what they are, not for where they lie.
    """
    return {
        **config.to_dict(),
        "sources": [splits.identity() for splits in corpus.sources],
        "target": [splits.identity() for splits in corpus.targets],
        "held_out": [splits.identity() for splits in corpus.held_out],
        "model": revision,
        "num_processes": num_processes,
    }


def _where_default(values: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of those fields that are as the class has them."""
    defaults = {field.name: _default(field) for field in fields(values)}
    return {
        name: value for name, value in changes.items() if getattr(values, name) == defaults[name]
    }


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
