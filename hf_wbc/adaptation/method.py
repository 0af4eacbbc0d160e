"""What a method is, what it declares, and how it is found by name.

What an option may be is said once, by its type: `weight: NotNegative = 1.0`.

Options come from a command line or a file, as int | float | bool | str. `Checked` refuses a value
of another type, one out of its range, and NaN.

What most methods that see the target are: the supervised loss plus `weight` times a penalty."""

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from hf_wbc.adaptation.losses import SupervisedLoss, forward_together
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.models import Classifier, Output
from hf_wbc.text import did_you_mean


@dataclass(frozen=True)
class Range:
    """Which numbers an option may be."""

    must: str
    """In words, as they follow "it must"."""
    holds: Callable[[float], bool]


AT_LEAST_ONE = Range("be at least 1", lambda value: value >= 1)

NotNegative = Annotated[float, Range("not be negative", lambda value: value >= 0)]
Positive = Annotated[float, Range("be positive", lambda value: value > 0)]
AtLeastOne = Annotated[float, AT_LEAST_ONE]
Count = Annotated[int, AT_LEAST_ONE]
Fraction = Annotated[float, Range("be in [0, 1]", lambda value: 0 <= value <= 1)]
ProperFraction = Annotated[float, Range("be in [0, 1)", lambda value: 0 <= value < 1)]
PositiveFraction = Annotated[float, Range("be in (0, 1]", lambda value: 0 < value <= 1)]

KINDS = {
    bool: "be True or False",
    int: "be a whole number",
    float: "be a finite number",
    str: "be text",
}


@dataclass(frozen=True)
class MethodOptions:
    """Base of frozen dataclasses of options, and itself the options of who has none.

    A field is a bool, int, float or str, `Annotated` with ranges or not, or one of `Literal` texts.
    """

    def __post_init__(self) -> None:
        """ValueError for a value that its type excludes; an int becomes the float that is meant."""
        hints = get_type_hints(type(self), include_extras=True)
        for name in (field.name for field in fields(self)):
            value, hint = getattr(self, name), hints[name]
            kind, *ranges = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if wrong := range_error(value, kind, ranges):
                raise ValueError(f"{name} is {value!r}; {wrong}")
            if kind is float:  # 1 and 1.0 are one setting of one run
                object.__setattr__(self, name, float(value))


def range_error(value: Any, kind: Any, ranges: Sequence[Range] = ()) -> str:
    """What is wrong with the value of an option; empty when nothing is."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return "" if value in choices else f"choose from {', '.join(choices)}"
    if not _is(value, kind):
        return f"it must {KINDS[kind]}"
    return next((f"it must {each.must}" for each in ranges if not each.holds(value)), "")


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # and no NaN
    return type(value) is kind


Family = Literal["generalisation", "adaptation", "source-free"]
LossTerms = dict[str, Tensor]
"""Named scalar terms of a loss; `loss` is the one to minimise."""


@dataclass(frozen=True)
class Needs:
    """What a method asks of the loader."""

    target: bool = False
    """Unlabelled target images in `fit`; a second phase has them in any case."""
    strong: bool = False
    """A second, more strongly augmented view."""
    index: bool = False
    """The row of each sample, to remember something of it between steps."""
    images: bool = False
    """Images themselves: it cannot run on embedded features."""
    features: bool = False
    """Features that learn: on a frozen backbone, a bottleneck before the head."""
    num_sources: int = 1
    """Labelled domains, at least."""


@dataclass(frozen=True)
class TrainingInfo:
    """What a method may know before the first step; nothing of it comes from target labels."""

    num_steps: int
    source_domains: tuple[str, ...]
    class_counts: Tensor
    """Training images of each source domain and class (domains, classes), int64."""
    num_target: int
    """Unlabelled training images in all target domains: `index` of a target view is below it."""
    is_features: bool = False
    """Inputs are embedded features, which pass no layer of the backbone."""
    adapt_passes: float = 0.0
    """Passes over the target's images that the second phase will make."""
    logit_adjustment: float = 0.0
    """For `SupervisedLoss`."""
    lineage: float = 0.0
    """For `SupervisedLoss`."""


class Method(nn.Module):
    """A loss around a classifier. The loop owns optimizer, schedule and precision.

    A method trains in `fit`, on source and target, and then, where it has a second phase, in
    `adapt`, on target images alone.
    """

    needs: ClassVar[Needs] = Needs()
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    """A frozen dataclass derived from `Checked`, with the paper's defaults."""
    paper: ClassVar[str]
    """Authors, year and arXiv id."""
    family: ClassVar[Family]
    """Generalisation sees no target, adaptation does while it trains, source-free only then."""
    limitations: ClassVar[str]
    """One sentence for `hf-wbc methods`."""
    config_overrides: ClassVar[Mapping[str, Any]] = {}
    """Fields of `TrainConfig`, and of its augmentation, that it sets where the user did not."""
    adapt_passes: ClassVar[float] = 0.0
    """Passes over the target's training images in the second phase; 0 is no second phase."""

    def __init__(self, classifier: Classifier, options: Any) -> None:
        """Around a classifier, with options from `parse`."""
        super().__init__()
        self.classifier = classifier
        self.options = options

    @classmethod
    def name(cls) -> str:
        """The name of its file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Any:
        """Options by name as `Options`; ValueError when one is unknown or out of its range."""
        known = [field.name for field in dataclasses.fields(cls.Options)]
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(
                f"{cls.name()} has no option {', '.join(unknown)}; "
                f"it knows {', '.join(known) or 'none'}"
            )
        return cls.Options(**options)

    @classmethod
    def sees_target(cls) -> bool:
        """Whether either phase needs a target's images."""
        return cls.needs.target or cls.adapt_passes > 0

    @property
    def eval_model(self) -> Classifier:
        """The weights that are evaluated and saved: a teacher's, in some methods."""
        return self.classifier

    def setup(self, info: TrainingInfo) -> None:
        """Once, before the optimizer is made: add modules and buffers that depend on the data.

        ValueError for a setting that the method cannot work in.
        """
        self.supervised = SupervisedLoss(info.class_counts, info.logit_adjustment, info.lineage)

    def forward(self, batch: Batch | TargetBatch) -> LossTerms:
        """The terms of the phase that the batch belongs to."""
        return self.adapt(batch) if isinstance(batch, TargetBatch) else self.fit(batch)

    def fit(self, batch: Batch) -> LossTerms:
        """Terms of a batch of both; a method without a first phase of its own trains plainly."""
        return {"loss": self.supervised_loss(self.classifier(batch.source.inputs), batch)}

    def start_adapting(self) -> None:
        """Before the second phase's optimizer is made: say which weights learn in it, say."""

    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Terms of a batch of target images; where no weight learns, `loss` needs no gradient."""
        raise NotImplementedError

    def after_step(self) -> None:
        """After each optimizer step: move an averaged teacher, say."""

    def supervised_loss(self, output: Output, batch: Batch) -> Tensor:
        """Mean supervised loss of the source samples, as every method has it."""
        source = batch.source
        loss: Tensor = self.supervised(output.logits, source.labels, source.domains).mean()
        return loss

    def forward_source_target(self, batch: Batch) -> tuple[Output, Output]:
        """The classifier's outputs for source and target, in one pass through it."""
        assert batch.target is not None
        output_s, output_t = forward_together(
            self.classifier, batch.source.inputs, batch.target.inputs
        )
        return output_s, output_t


def method_names() -> tuple[str, ...]:
    """All methods, in alphabetical order."""
    import hf_wbc.adaptation.methods as package

    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_method(name: str) -> type[Method]:
    """The class of a method; ValueError lists the names that exist."""
    names = method_names()
    if name not in names:
        raise ValueError(f"unknown method {name!r}; {did_you_mean(name, names)}")
    method: type[Method] = importlib.import_module(f"hf_wbc.adaptation.methods.{name}").METHOD
    return method


class PenaltyMethod(Method):
    """Adds a penalty on the outputs of both sides; its options have a `weight`."""

    needs = Needs(target=True)
    family: ClassVar[Family] = "adaptation"
    penalty_name: ClassVar[str]
    """Among the terms."""

    def fit(self, batch: Batch) -> LossTerms:
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        penalty = self.penalty(output_s, output_t, batch)
        loss = supervised + self.options.weight * penalty
        terms = {"loss": loss, "supervised": supervised.detach()}
        return {**terms, self.penalty_name: penalty.detach()}

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """What is minimised along with the supervised loss, ()."""
        raise NotImplementedError

    def weights(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor | None:
        """Importance of this process's source samples (B_s,); None where all are equal."""
        return None
