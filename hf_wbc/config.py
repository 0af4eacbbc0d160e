"""`TrainConfig`: everything that decides the result of a run, in five groups.

What does not change a result (the output folder, the trackers, the device) is not part of it.

    TrainConfig(
        data=DataConfig(sources=("build/acevedo_20",), target=("build/matek_19",)),
        adapt=AdaptConfig(method="dann"),
        optim=OptimConfig(learning_rate=3e-4),
    )

Field names are unique across the groups, so the constructor and `replace` also take them directly:

    TrainConfig(sources=("build/acevedo_20",), target=("build/matek_19",), method="dann",
                learning_rate=3e-4)

The command line is flat in the same way (`--method dann --learning-rate 3e-4`).
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from hf_wbc.config_groups import (
    ADDED_AUGMENTATION,
    AUGMENTATIONS,
    AdaptConfig,
    Augmentation,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TargetStyle,
    check_not_negative,
)
from hf_wbc.text import did_you_mean

__all__ = [
    "AUGMENTATIONS",
    "FLAT_NAMES",
    "RENAMED",
    "AdaptConfig",
    "Augmentation",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "OptimConfig",
    "RenamedWarning",
    "TargetStyle",
    "TrainConfig",
]


class RenamedWarning(FutureWarning):
    """An old name was used; the message names the new one."""


GROUPS: Mapping[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "adapt": AdaptConfig,
    "eval": EvalConfig,
}
FLAT_NAMES: Mapping[str, tuple[str, str]] = {
    "model" if (group, each.name) == ("model", "name") else each.name: (group, each.name)
    for group, cls in GROUPS.items()
    for each in fields(cls)
}
"""Flat name, as the constructor and the command line take it -> (group, field)."""
RENAMED: Mapping[str, str] = {
    "accumulation": "gradient_accumulation_steps",
    "adapt_lr": "adapt_learning_rate",
    "clip": "max_grad_norm",
    "evaluate_every": "eval_steps",
    "fresh": "from_scratch",
    "lr": "learning_rate",
    "normalise_by": "normalize_by",
    "precision": "mixed_precision",
    "warmup": "warmup_ratio",
}
"""Flat name before the groups -> flat name today: for old records, study files and flags."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: Domains, sampling, augmentation and normalization.
        model: The network, and which of its weights are trained.
        optim: Loss, optimizer, schedule and weight averaging.
        adapt: The training method and its second phase.
        eval: Evaluation, selection of weights and label-shift correction.
        seed: Seed of weights, sample order and augmentation.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = 0
    """Seed of weights, sample order and augmentation."""
    _model: ModelConfig | None = field(default=None, repr=False, compare=False)
    """The model group again: `dataclasses.replace(config, model="name")` passes the name in place
    of the group, whose other fields have to stay."""

    def __init__(
        self,
        data: DataConfig | Iterable[str] | None = None,
        model: ModelConfig | str | None = None,
        optim: OptimConfig | None = None,
        adapt: AdaptConfig | None = None,
        eval: EvalConfig | None = None,
        seed: int = 0,
        _model: ModelConfig | None = None,
        **flat: Any,
    ) -> None:
        """Build a configuration from groups, from flat field names, or from both.

        Args:
            data: The group, or the sources.
            model: The group, or the model's name.
            optim: The group.
            adapt: The group.
            eval: The group.
            seed: Seed of weights, sample order and augmentation.
            **flat: Fields of any group by name, which override the group's; names of before the
                groups are understood too, with a `RenamedWarning`.

        Raises:
            ValueError: For an unknown name or a value out of range.
        """
        if data is not None and not isinstance(data, DataConfig):
            flat, data = {"sources": tuple(data), **flat}, None
        if isinstance(model, str):
            flat, model = {"model": model, **flat}, _model
        given = {"data": data, "model": model, "optim": optim, "adapt": adapt, "eval": eval}
        changes = _by_group(_current_names(flat))
        for group, cls in GROUPS.items():
            nothing: dict[str, Any] = {"sources": ()} if group == "data" else {}
            values = nothing if given[group] is None else _values(given[group])
            object.__setattr__(self, group, cls(**{**values, **changes.get(group, {})}))
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "_model", self.model)
        self._check()

    def _check(self) -> None:
        """ValueError for values that exclude each other across groups."""
        check_not_negative(self, ("seed",))
        if self.model.inputs == "images":
            return
        if self.eval.test_time_flips:
            raise ValueError("embedded features cannot be flipped; use --inputs images")
        if self.optim.compile:
            raise ValueError(
                "compile compiles the network, which embedded features bypass; use --inputs images"
            )
        data = self.data
        shift, stain = data.augmentation.target_shift, data.augmentation.stain
        is_plain = data.normalize_by == "checkpoint" and data.sharpness == "own"
        stain = stain and not self.model.feature_views
        if shift or stain or data.blur_um or not is_plain:
            raise ValueError(
                "embedded features are of unchanged images; for stain, target_shift, "
                "normalize_by, sharpness and blur_um use --inputs images; for stain, also "
                "--feature-views"
            )

    def replace(self, **flat: Any) -> Self:
        """A copy with some fields, by flat name, or whole groups changed."""
        return type(self)(**{**_values(self), **_current_names(flat)})

    def flat(self) -> dict[str, Any]:
        """Every field as a plain JSON value, by its flat name."""
        nested = self.to_dict()
        found = {name: nested[group][inner] for name, (group, inner) in FLAT_NAMES.items()}
        return {**found, "seed": self.seed}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values by group; tuples become lists."""
        values = {group: asdict(getattr(self, group)) for group in GROUPS}
        return json.loads(json.dumps({**values, "seed": self.seed}))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; also reads the flat form that older records hold.

        Raises:
            ValueError: For an unknown name or a value out of range.
        """
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name in GROUPS and isinstance(value, Mapping):
                own = {f: flat_name for flat_name, (g, f) in FLAT_NAMES.items() if g == name}
                _require_known(value, own, f"{name}.")
                flat |= {own[inner]: each for inner, each in value.items()}
            else:
                flat[RENAMED.get(name, name)] = value
        if isinstance(strength := flat.get("augmentation"), Mapping):
            _require_known(strength, [f.name for f in fields(Augmentation)], "augmentation.")
            flat["augmentation"] = _augmentation(strength)
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in flat.items()}
        return cls(**given)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The configuration in a run's record, in today's or the older flat form."""
        return cls.from_dict(record["config"])


def _augmentation(values: Mapping[str, Any]) -> Augmentation:
    """An augmentation from its fields; the fields that are left out take the robust defaults.

    Records written before `ADDED_AUGMENTATION` hold all other fields; there, these are off.
    """
    added = {name: 0.0 for name in ADDED_AUGMENTATION}
    is_old_record = not added.keys() & values.keys() and len(values) == len(
        fields(Augmentation)
    ) - len(added)
    return Augmentation(**({**added, **values} if is_old_record else values))


def _current_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values under today's flat names; old names are replaced, with a warning."""
    for name in flat.keys() & RENAMED.keys():
        group, inner = FLAT_NAMES[RENAMED[name]]
        warnings.warn(
            f"{name} is now {inner} (TrainConfig.{group}.{inner})",
            RenamedWarning,
            stacklevel=3,
        )
    return {RENAMED.get(name, name): value for name, value in flat.items()}


def _by_group(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values under flat names as {group: {field: value}}."""
    _require_known(flat, FLAT_NAMES)
    found: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        group, inner = FLAT_NAMES[name]
        found.setdefault(group, {})[inner] = value
    return found


def _require_known(names: Iterable[str], known: Iterable[str], prefix: str = "") -> None:
    """ValueError for names that no field has."""
    known = list(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"TrainConfig has no field {prefix + name!r}; {hint}")


def _values(config: Any) -> dict[str, Any]:
    """A dataclass's own fields, not converted."""
    return {each.name: getattr(config, each.name) for each in fields(config)}
