"""Resolve a configuration: apply the method's overrides, fill in defaults, and name the run.

`resolve` serves both training and study planning, and performs every check that does not require
training. `run_identity` determines the name of a run's folder.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hf_wbc.adaptation import Method, load_method
from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.config import AUGMENTATIONS, FLAT_NAMES, RENAMED, TrainConfig
from hf_wbc.config_groups import ADDED_AUGMENTATION
from hf_wbc.data.augment import check_strength
from hf_wbc.engine.compilation import without_missing_compiler
from hf_wbc.engine.domains import DomainSet, load_domains
from hf_wbc.engine.features import stored_runtime
from hf_wbc.engine.target_labels import TargetLabels, load_target_labels
from hf_wbc.evaluation.model_selection import require_selection_rule, selection_rule
from hf_wbc.models import Classifier, PretrainedModel, load_classifier
from hf_wbc.records import digest

__all__ = [
    "ResolvedRun",
    "check_config",
    "require_trainable_features",
    "resolve",
    "run_identity",
    "stable_values",
    "with_config_overrides",
]

ADDED_FIELDS: Mapping[str, Any] = {
    "feature_runtime": None,
    "feature_views": 0,
    "label_smoothing": 0.0,
    "effective_numbers": 0.0,
    "compile": False,
    "target_labels": None,
    "target_label_weight": 1.0,
    "target_label_budget": None,
}
"""Flat names that were added after the first release, with the value that changes nothing."""
BOTTLENECK = 256
"""Default bottleneck width on extracted features, as in the Transfer-Learning-Library."""
ADAPT_LR_FACTOR = 0.1
"""Default learning rate of the second phase, as a fraction of the first phase's."""


@dataclass(frozen=True)
class ResolvedRun:
    """A fully resolved run with its data and pre-trained model."""

    requested: TrainConfig
    """The configuration as the user specified it."""
    config: TrainConfig
    """The configuration with the method's overrides and all defaults filled in."""
    method: type[Method]
    domain_set: DomainSet
    pretrained: PretrainedModel
    identity: Mapping[str, Any]
    """What determines the result; see `run_identity`."""
    target_labels: TargetLabels | None = None
    """Labels of target images that the run trains on."""

    @property
    def name(self) -> str:
        """Name of the run's folder: twelve hex digits of the identity's SHA-256."""
        return digest(self.identity)


def resolve(
    config: TrainConfig,
    num_processes: int = 1,
    cache: Path | None = None,
    *,
    domains_loader: Callable[..., DomainSet] = load_domains,
    model_loader: Callable[..., PretrainedModel] = load_classifier,
) -> ResolvedRun:
    """Resolve a configuration; this reads data and weights, but trains and writes nothing.

    Args:
        config: The configuration as the user specified it.
        num_processes: Number of processes that train together.
        cache: Folder of extracted features, which decides between runtimes where the configuration
            does not.
        domains_loader: `load_domains`, or a caching replacement if many runs share data.
        model_loader: `load_classifier`, or a caching replacement.

    Raises:
        ValueError: If the method, the data, the model or their combination cannot be used.
    """
    method = check_config(config)
    requested, config = config, with_config_overrides(config, method.config_overrides)
    config = without_missing_compiler(config)
    data, evaluation = config.data, config.eval
    domain_set = domains_loader(
        data.sources,
        data.target,
        data.held_out,
        merge=evaluation.merge,
        classes=evaluation.classes,
        oracle=evaluation.oracle,
        allow_unscaled=data.allow_unscaled,
    )
    config, labels = load_target_labels(config, domain_set)
    _check_images(config, method, domain_set)
    pretrained = model_loader(
        config.model.name,
        fresh=config.model.from_scratch,
        image_size=config.model.image_size,
        seed=config.seed,
    )
    config = _fill_in_defaults(config, method, pretrained, domain_set, num_processes)
    config = config.replace(feature_runtime=stored_runtime(config, pretrained, domain_set, cache))
    _check_batches(config, num_processes)
    identity = run_identity(config, domain_set, pretrained.revision, num_processes, labels)
    return ResolvedRun(requested, config, method, domain_set, pretrained, identity, labels)


def run_identity(
    config: TrainConfig,
    domain_set: DomainSet,
    revision: str,
    num_processes: int,
    labels: TargetLabels | None = None,
) -> dict[str, Any]:
    """Return what determines the result of a run; its digest names the run's folder.

    Data and weights are identified by their contents, not by where they are stored.

    Args:
        config: The resolved configuration.
        domain_set: The data, identified by names, revisions and fingerprints.
        revision: Revision of the pre-trained weights.
        num_processes: Number of processes that train together.
        labels: Labels of target images, identified by what they say.

    Returns:
        JSON values under the keys of `stable_values`, with data and weights replaced, and with the
        settings of the environment that change the arithmetic.
    """
    return with_arithmetic(
        {
            **stable_values(config),
            "sources": [domain.identity() for domain in domain_set.sources],
            "target": [domain.identity() for domain in domain_set.targets],
            "held_out": [domain.identity() for domain in domain_set.held_out],
            "model": revision,
            "num_processes": num_processes,
            **({} if labels is None else {"target_labels": labels.facts()}),
        }
    )


def stable_values(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as digests use it: flat, under keys that never change.

    Finished runs keep their names: a renamed field has its first name here (`RENAMED` in
    config.py), renamed values their first spelling ("fp32" for no, "colours" for colors), and a
    field that was added is left out as long as it is off.
    """
    first_names = {new: old for old, new in RENAMED.items()}
    values = {first_names.get(name, name): value for name, value in config.flat().items()}
    strength = values["augmentation"]
    values["augmentation"] = {
        name: strength[name]
        for name in strength
        if strength[name] or name not in ADDED_AUGMENTATION
    }
    if values["augmentation"]["target_style"] == "colors":
        values["augmentation"]["target_style"] = "colours"
    for name, off in ADDED_FIELDS.items():
        if values[name] == off:
            del values[name]
    return {**values, "precision": values["precision"].replace("no", "fp32")}


def check_config(config: TrainConfig) -> type[Method]:
    """Check a configuration as far as possible without data, and return its method.

    Raises:
        ValueError: If options do not exist or do not fit together.
    """
    method = load_method(config.adapt.method)
    method.parse(config.adapt.method_options)
    check_strength(config.data.augmentation)
    if method.sees_target() and not config.data.target:
        raise ValueError(f"{config.adapt.method} adapts to a target; name one with --target")
    if method.needs.images and config.model.inputs == "features":
        raise ValueError(f"{config.adapt.method} needs images; leave out --inputs features")
    if method.closed_form and config.model.inputs == "images":
        raise ValueError(
            f"{config.adapt.method} computes a head on embedded features; use --inputs features"
        )
    if len(config.data.sources) < method.needs.num_sources:
        raise ValueError(
            f"{config.adapt.method} compares at least {method.needs.num_sources} sources, but "
            f"{len(config.data.sources)} is given; name more with --sources"
        )
    if config.eval.correct_priors != "none" and len(config.data.target) != 1:
        raise ValueError(
            f"correct_priors {config.eval.correct_priors} makes a model for one target, but "
            f"{len(config.data.target)} are given; name one with --target, or use none"
        )
    for name in ("logit_adjustment", "effective_numbers"):
        value = getattr(config.optim, name)
        if value and config.data.balance == "class_domain":
            raise ValueError(
                f"{name} {value} and balance class_domain would correct for the class proportions "
                f"twice; use --balance none, or omit --{name.replace('_', '-')}"
            )
    if config.adapt.adapt_steps and not method.adapt_passes:
        raise ValueError(f"{config.adapt.method} has no second phase; omit --adapt-steps")
    if config.adapt.adapt_steps == 0 and method.adapt_passes:
        raise ValueError(
            f"{config.adapt.method} adapts in its second phase, but adapt_steps is 0; omit "
            "--adapt-steps for one pass, or use --method source_only"
        )
    require_selection_rule(
        selection_rule(config.eval.selection),
        has_target=bool(config.data.target),
        has_held_out=bool(config.data.held_out),
        oracle=config.eval.oracle,
    )
    if config.eval.oracle and not config.data.target:
        raise ValueError("oracle scores target labels; name a target with --target")
    return method


def _check_images(config: TrainConfig, method: type[Method], domain_set: DomainSet) -> None:
    """Raise a ValueError if an empty split takes from an option what it measures."""
    unread = [domain.train.ref for domain in domain_set.all if not len(domain.train)]
    measured = (config.data.normalize_by, config.data.sharpness) != ("checkpoint", "own")
    if unread and measured:
        raise ValueError(
            f"{unread[0]} has no training images, on which normalize_by domain and sharpness "
            "common measure its colors and sharpness; leave both at their defaults"
        )
    targets = [domain.train for domain in domain_set.targets]
    uses_target = method.sees_target() or config.data.augmentation.target_shift
    if uses_target and (empty := [train.ref for train in targets if not len(train)]):
        raise ValueError(
            f"{empty[0]} has no training images, and {config.adapt.method} adapts to them; use "
            "--method source_only, or prepare more images"
        )
    if any(len(domain.validation) for domain in domain_set.sources):
        return
    if config.optim.swad:
        raise ValueError(
            "swad averages weights by the loss on the sources' validation images, and they have "
            "none; leave out --swad, or use --ema"
        )
    if config.eval.correct_priors != "none":
        raise ValueError(
            f"correct_priors {config.eval.correct_priors} needs validation images of the sources, "
            "and they have none; leave it at none"
        )


def _check_batches(config: TrainConfig, num_processes: int) -> None:
    """Raise a ValueError if a batch lacks a domain or is too small for a bottleneck."""
    batch_size = config.optim.batch_size
    size = batch_size * num_processes
    for what, domains in (("sources", config.data.sources), ("targets", config.data.target)):
        if size < len(domains):
            raise ValueError(
                f"batch_size {batch_size} x {num_processes} processes is {size}, less than "
                f"the number of {what}, {len(domains)}; raise --batch-size"
            )
    if config.model.bottleneck and config.optim.batch_size < 2:
        raise ValueError(
            "a bottleneck standardizes over the batch, but one image has no variance; "
            "raise --batch-size, or use --bottleneck 0"
        )


def require_trainable_features(method: type[Method], classifier: Classifier) -> None:
    """Require trainable weights before the head for methods that adapt features.

    Raises:
        ValueError: If the method adapts features and only the head is trainable.
    """
    head = {id(parameter) for parameter in classifier.head.parameters()}
    if method.needs.features and all(
        id(p) in head for p in classifier.parameters() if p.requires_grad
    ):
        raise ValueError(
            f"{method.name()} adapts features, but no weights before the head are trained; use "
            "--trainable full, or --bottleneck 256"
        )


def _fill_in_defaults(
    config: TrainConfig,
    method: type[Method],
    pretrained: PretrainedModel,
    domain_set: DomainSet,
    num_processes: int,
) -> TrainConfig:
    """Replace all defaults that depend on the method, the model or the data."""
    model, optim, adapt = config.model, config.optim, config.adapt
    trainable = "frozen" if model.inputs == "features" else model.trainable
    bottleneck = BOTTLENECK if trainable == "frozen" else 0
    per_step = optim.images_per_step * num_processes
    num_target = sum(len(domain.train) for domain in domain_set.targets)
    adapt_steps = math.ceil(method.adapt_passes * num_target / per_step)
    adapt_rate = ADAPT_LR_FACTOR * optim.learning_rate
    return config.replace(
        method_options=asdict(method.parse(adapt.method_options)),
        image_size=pretrained.preprocessing.size,
        trainable=trainable,
        bottleneck=bottleneck if model.bottleneck is None else model.bottleneck,
        adapt_steps=adapt_steps if adapt.adapt_steps is None else adapt.adapt_steps,
        adapt_learning_rate=(
            adapt_rate if adapt.adapt_learning_rate is None else adapt.adapt_learning_rate
        ),
    )


def with_config_overrides(config: TrainConfig, overrides: Mapping[str, Any]) -> TrainConfig:
    """Apply a method's overrides (by flat name) to fields that the user left at their default.

    An augmentation that was chosen by name, rather than field by field, takes all overrides.
    """
    strength = config.data.augmentation
    is_named = strength in AUGMENTATIONS.values()
    changed = {
        name: value
        for name, value in overrides.get("augmentation", {}).items()
        if is_named or getattr(strength, name) == _default(type(strength), name)
    }
    flat = {
        name: value
        for name, value in overrides.items()
        if name != "augmentation" and _is_default(config, name)
    }
    return config.replace(augmentation=replace(strength, **changed), **flat)


def _is_default(config: TrainConfig, name: str) -> bool:
    """Return whether a field, by flat name, has its class's default."""
    group, inner = FLAT_NAMES[name]
    values = getattr(config, group)
    return bool(getattr(values, inner) == _default(type(values), inner))


def _default(cls: type[Any], name: str) -> Any:
    found = next(each for each in fields(cls) if each.name == name)
    return found.default_factory() if found.default_factory is not MISSING else found.default
