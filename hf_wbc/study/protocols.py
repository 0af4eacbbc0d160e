"""Predefined studies: common protocols of the field, as functions that return TrainConfigs.

`data` is the folder of the prepared datasets, or an organization on the Hub. Without `methods`,
a study uses every method that fits: methods that need images are excluded on features, and methods
that need a target are excluded without one. `fields` sets any other fields of TrainConfig.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.text import did_you_mean

PUBLIC = ("acevedo_20", "matek_19", "mll_23")
TOY_DATA = "build/study_toy"
TOY_METHODS = ("source_only", "coral", "dann", "cdan", "mcc", "bnm")
TOY_DOMAINS = ("toy_acevedo_20", "toy_matek_19")
TOY_BACKBONE = "backbone"
TOY_FIELDS = {"from_scratch": True, "batch_size": 48, "learning_rate": 2e-3}
NETWORKS = ("convnextv2-tiny",)


def sweep(
    configs: Sequence[TrainConfig], methods: Sequence[str], networks: Sequence[str], seeds: int
) -> list[TrainConfig]:
    """Combine configurations with methods, networks and seeds; no methods means all that fit."""
    return [
        config.replace(method=method, model=network, seed=seed)
        for config in configs
        for network in networks
        for method in (methods or fitting_methods(config))
        for seed in range(seeds)
    ]


def fitting_methods(config: TrainConfig) -> list[str]:
    """Return the methods whose requirements a configuration meets, in alphabetical order."""
    from hf_wbc.adaptation import load_method, method_names

    found = []
    for name in method_names():
        method = load_method(name)
        has_target = bool(config.data.target) or not method.sees_target()
        has_images = config.model.inputs == "images"
        fits = not method.closed_form if has_images else not method.needs.images
        if has_target and fits and len(config.data.sources) >= method.needs.num_sources:
            found.append(name)
    return found


def acevedo_to_matek(
    data: str = "build",
    methods: tuple[str, ...] = (),
    networks: tuple[str, ...] = NETWORKS,
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Train on Acevedo_20 and adapt to Matek_19 without its labels."""
    return sweep([_direction(data, "acevedo_20", "matek_19", fields)], methods, networks, seeds)


def matek_to_acevedo(
    data: str = "build",
    methods: tuple[str, ...] = (),
    networks: tuple[str, ...] = NETWORKS,
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Train on Matek_19 and adapt to Acevedo_20 without its labels."""
    return sweep([_direction(data, "matek_19", "acevedo_20", fields)], methods, networks, seeds)


def acevedo_matek_to_others(
    data: str = "build",
    targets: tuple[str, ...] = ("wbc_1", "wbc_2", "mll_23"),
    methods: tuple[str, ...] = (),
    networks: tuple[str, ...] = NETWORKS,
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Train on Acevedo_20 and Matek_19; adapt to WBC_1, WBC_2 and MLL23 separately."""
    pairs = [_direction(data, "acevedo_20,matek_19", target, fields) for target in targets]
    return sweep(pairs, methods, networks, seeds)


def leave_one_out(
    data: str = "build",
    domains: tuple[str, ...] = PUBLIC,
    selections: tuple[str, ...] = ("source_val", "held_out"),
    methods: tuple[str, ...] = (),
    networks: tuple[str, ...] = NETWORKS,
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Use each domain in turn as the target; train on the others.

    With the selection rule `source_val`, the sources' own validation images select the weights.
    With `held_out`, one of the other domains is excluded from training and selects the weights;
    each of them takes this role in turn. The target's labels are never used for selection.
    """
    if len(domains) < 3 and "held_out" in selections:
        raise ValueError(
            f"selection held_out needs a target, a held-out domain and a source, but "
            f"{len(domains)} domains are given; name more, or use selections=source_val"
        )
    configs = []
    for selection in selections:
        for target in domains:
            others = [domain for domain in domains if domain != target]
            for held_out in others if selection == "held_out" else [""]:
                configs.append(
                    TrainConfig(
                        sources=_refs(data, [each for each in others if each != held_out]),
                        target=_refs(data, [target]),
                        held_out=_refs(data, [held_out] if held_out else []),
                        selection=selection,
                        **fields,
                    )
                )
    return sweep(configs, methods, networks, seeds)


COMPUTED: Mapping[str, Any] = {"steps": 1, "eval_steps": 1}
"""A computed head needs no further steps."""
ROWS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"augmentation": "light"},
    "robust": {"augmentation": "robust", "method": "strong_augmentation"},
    "robust_adabn": {"augmentation": "robust", "method": "adabn"},
    "frozen_probe": {"inputs": "features"},
    "frozen_lda": {"inputs": "features", "method": "lda", **COMPUTED},
    "frozen_lda_standardized": {"inputs": "features", "method": "lda_standardized", **COMPUTED},
}
"""What each row of the laboratory benchmark trains, as fields of TrainConfig.

The methods differ, so that tables and comparisons tell the rows apart by the method's name."""
LABORATORIES = ("acevedo_20", "bccd_crops", "cellavision_blog", "tecom_jiangxi")
WITHOUT_BANDS = ("bccd_crops", "cellavision_blog", "tecom_jiangxi")
"""Laboratories that call bands and segmented neutrophils by one name."""
BANDS_MERGED = ("neutrophil_banded=neutrophil_segmented",)
"""How these laboratories are scored: both as one class."""
COMMON_CLASSES = ("neutrophil_segmented", "eosinophil", "lymphocyte_typical", "monocyte")
"""Classes scored in these laboratories; the others have three cells or fewer there."""


def laboratories(
    data: str = "build",
    labs: tuple[str, ...] = LABORATORIES,
    sources: tuple[str, ...] = (),
    without_bands: tuple[str, ...] = WITHOUT_BANDS,
    rows: tuple[str, ...] = ("plain", "robust", "frozen_probe"),
    networks: tuple[str, ...] = ("efficientnet-lite0",),
    seeds: int = 3,
    image_size: int = 128,
    steps: int = 600,
    batch_size: int = 32,
    **fields: Any,
) -> list[TrainConfig]:
    """Leave one laboratory out: train on all others, or on `sources` alone, and score it.

    `rows` are plain (light augmentation), robust (the default augmentation), robust_adabn (with
    BatchNorm statistics of the target), frozen_probe (a linear head on frozen features), frozen_lda
    (a computed one) and frozen_lda_standardized (after standardization by the target). The weights
    of the last step are kept, so no label of any laboratory selects anything. Laboratories that do
    not tell bands from segmented neutrophils are scored over `COMMON_CLASSES`.

    With `sources`, a run of a method that does not adapt scores all laboratories that are scored
    over the same classes; a method that adapts has one run for each of them.

    Raises:
        ValueError: For an unknown row, fewer than two laboratories, or only laboratories that are
            sources.
    """
    if len(labs) < 2:
        raise ValueError(f"{len(labs)} laboratory is given; name at least two with labs")
    configs = []
    for row in rows:
        if row not in ROWS:
            raise ValueError(f"unknown row {row!r}; {did_you_mean(row, ROWS)}")
        if fields.get("inputs") == "features" and "augmentation" in ROWS[row]:
            continue  # features cannot be augmented
        settings: dict[str, Any] = {
            "image_size": image_size,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": 3e-4,
            "eval_steps": steps,
            "selection": "last",
            "allow_unscaled": True,
            **ROWS[row],
            **fields,
        }
        for trained_on, targets in _directions(labs, sources, without_bands, settings):
            bands = targets[0] in without_bands
            scoring = {"merge": BANDS_MERGED, "classes": COMMON_CLASSES} if bands else {}
            parts = {"sources": _refs(data, trained_on), "target": _refs(data, targets)}
            configs.append(TrainConfig(**{**scoring, **settings, **parts}))
    return [
        config.replace(model=network, seed=seed)
        for config in configs
        for network in networks
        for seed in range(seeds)
    ]


def _directions(
    labs: Sequence[str],
    sources: Sequence[str],
    without_bands: Sequence[str],
    settings: Mapping[str, Any],
) -> list[tuple[list[str], list[str]]]:
    """Return the sources and targets of each run of a row of the laboratory benchmark."""
    if not sources:
        return [([lab for lab in labs if lab != target], [target]) for target in labs]
    targets = [lab for lab in labs if lab not in sources]
    if not targets:
        raise ValueError(
            f"all laboratories ({', '.join(labs)}) are sources; name another one with labs"
        )
    if _uses_target(settings):
        return [([*sources], [target]) for target in targets]
    groups = [
        [lab for lab in targets if (lab in without_bands) is merged] for merged in (True, False)
    ]
    return [([*sources], group) for group in groups if group]


def _uses_target(settings: Mapping[str, Any]) -> bool:
    """Return whether the weights depend on unlabeled images of the target."""
    from hf_wbc.adaptation import load_method
    from hf_wbc.evaluation.model_selection import selection_rule

    return (
        load_method(settings.get("method", "source_only")).sees_target()
        or selection_rule(settings["selection"]).sees != "no target"
        or settings.get("correct_priors", "none") != "none"
        or settings.get("sharpness", "own") != "own"
    )


def ceilings(
    data: str = "build",
    domains: tuple[str, ...] = PUBLIC,
    methods: tuple[str, ...] = ("source_only",),
    networks: tuple[str, ...] = NETWORKS,
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Train and score on the same domain: the upper bound that target labels would give."""
    return sweep(
        [_direction(data, domain, "", fields) for domain in domains], methods, networks, seeds
    )


def toy(
    data: str = TOY_DATA,
    methods: tuple[str, ...] = TOY_METHODS,
    seeds: int = 2,
    steps: int = 100,
    **fields: Any,
) -> list[TrainConfig]:
    """Run six methods in two directions between drawn laboratories, in minutes on a CPU."""
    home, away = TOY_DOMAINS
    fields = {**TOY_FIELDS, "eval_steps": max(1, steps // 4), **fields, "steps": steps}
    directions = [
        _direction(f"{data}/data", source, target, fields)
        for source, target in ((home, away), (away, home))
    ]
    return sweep(directions, methods, (f"{data}/{TOY_BACKBONE}",), seeds)


def _direction(data: str, sources: str, target: str, fields: dict[str, Any]) -> TrainConfig:
    """Return the configuration for comma-separated sources and one target, or none."""
    refs = _refs(data, sources.split(","))
    return TrainConfig(sources=refs, target=_refs(data, [target] if target else []), **fields)


def _refs(data: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{data}/{name}" for name in names)


STUDIES = {
    study.__name__: study
    for study in (
        acevedo_to_matek,
        matek_to_acevedo,
        acevedo_matek_to_others,
        leave_one_out,
        laboratories,
        ceilings,
        toy,
    )
}
