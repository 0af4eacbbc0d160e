"""The method contract: what a training method declares, computes, and how it is found by name.

A method is a loss around a classifier. It lives in a file of `hf_wbc.adaptation.methods`, declares
what it needs (`Needs`), its options (`MethodOptions`) and its limitations, and computes the terms
of a loss from a batch. The training loop owns optimizer, schedule and precision.
"""

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

__all__ = [
    "AtLeastOne",
    "Count",
    "Family",
    "Fraction",
    "LossTerms",
    "Method",
    "MethodOptions",
    "Needs",
    "NotNegative",
    "PenaltyMethod",
    "Positive",
    "PositiveFraction",
    "ProperFraction",
    "Range",
    "TrainingInfo",
    "load_method",
    "method_names",
    "range_error",
]


@dataclass(frozen=True)
class Range:
    """The numbers that an option accepts."""

    must: str
    """Completes the sentence "it must ..." of the error message."""
    holds: Callable[[float], bool]
    """Whether a number is in the range."""


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
    """Base class of a method's options, and the options of a method that has none.

    Subclasses are frozen dataclasses. The type of a field defines the values it accepts: bool, int,
    float, str, one of these `Annotated` with ranges (`weight: NotNegative = 1.0`), or a `Literal`
    of texts. Values come from a command line or a file.
    """

    def __post_init__(self) -> None:
        """Check every option, and convert an int to float where the option is a float.

        Raises:
            ValueError: If a value has the wrong type, is out of range, or is not finite.
        """
        hints = get_type_hints(type(self), include_extras=True)
        for name in (field.name for field in fields(self)):
            value, hint = getattr(self, name), hints[name]
            kind, *ranges = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if wrong := range_error(value, kind, ranges):
                raise ValueError(f"{name} is {value!r}; {wrong}")
            if kind is float:  # 1 and 1.0 must give the same run name
                object.__setattr__(self, name, float(value))


def range_error(value: Any, kind: Any, ranges: Sequence[Range] = ()) -> str:
    """Return what is wrong with an option's value, or an empty string if it is valid.

    Args:
        value: The value to check.
        kind: Its expected type: bool, int, float, str or a `Literal` of texts.
        ranges: The ranges it has to be in.
    """
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return "" if value in choices else f"choose from {', '.join(choices)}"
    if not _has_type(value, kind):
        return f"it must {KINDS[kind]}"
    return next((f"it must {each.must}" for each in ranges if not each.holds(value)), "")


def _has_type(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # excludes NaN
    return type(value) is kind


Family = Literal["generalization", "adaptation", "source-free"]
LossTerms = dict[str, Tensor]
"""Named scalar terms of a loss; `loss` is the one to minimize, the others are logged."""


@dataclass(frozen=True)
class Needs:
    """What a method needs from the data loader and the model."""

    target: bool = False
    """Unlabeled target samples in `fit`. A second phase always gets them."""
    strong: bool = False
    """A second, more strongly augmented view of each sample."""
    index: bool = False
    """The row of each sample, for methods that remember it between steps."""
    images: bool = False
    """Images: the method cannot train on embedded features."""
    features: bool = False
    """Trainable features: a frozen backbone gets a bottleneck before the head."""
    num_sources: int = 1
    """Minimum number of labeled domains."""


@dataclass(frozen=True)
class TrainingInfo:
    """What a method may know before the first step.

    Nothing is derived from target labels, except from those that the run was given to train on.
    """

    num_steps: int
    """Optimizer steps of the first phase."""
    source_domains: tuple[str, ...]
    """Names of the source domains."""
    class_counts: Tensor
    """Training images of each source domain and class (D, C), int64."""
    num_target: int
    """Unlabeled training images in all target domains; `index` of a target view is below it."""
    is_features: bool = False
    """Whether inputs are embedded features, which bypass the backbone."""
    adapt_passes: float = 0.0
    """Passes over the target's images in the second phase."""
    logit_adjustment: float = 0.0
    """See `SupervisedLoss`."""
    label_smoothing: float = 0.0
    """See `SupervisedLoss`."""
    effective_numbers: float = 0.0
    """See `SupervisedLoss`."""
    lineage: float = 0.0
    """See `SupervisedLoss`."""
    labeled_counts: Tensor | None = None
    """Labeled target images of each class (C,), int64, if the run trains on any."""
    target_label_weight: float = 1.0
    """Weight of the loss on labeled target images."""

    @property
    def present(self) -> Tensor:
        """Classes (C,) that the sources or the labeled target images contain, bool."""
        present = self.class_counts.sum(0) > 0
        return present if self.labeled_counts is None else present | (self.labeled_counts > 0)


class Method(nn.Module):
    """A loss around a classifier.

    A method trains in `fit`, on source and target batches. If it has a second phase
    (`adapt_passes` > 0), it then trains in `adapt`, on target batches only.

    Attributes:
        classifier: The classifier that learns.
        options: An instance of `Options`.
        supervised: The supervised loss, available after `setup`.
    """

    needs: ClassVar[Needs] = Needs()
    """What the method needs from the data loader and the model."""
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    """Frozen dataclass derived from `MethodOptions`, with the paper's defaults."""
    paper: ClassVar[str]
    """Authors, year and arXiv id."""
    family: ClassVar[Family]
    """Generalization never sees a target, adaptation sees it during training, and source-free
    methods see it only in a second phase without the sources."""
    limitations: ClassVar[str]
    """When the method fails, in one sentence for `hf-wbc methods`."""
    config_overrides: ClassVar[Mapping[str, Any]] = {}
    """Fields of `TrainConfig`, and of its augmentation, to set where the user did not."""
    closed_form: ClassVar[bool] = False
    """Whether `solve` computes the head from all features before the first step."""
    adapt_passes: ClassVar[float] = 0.0
    """Default passes over the target's training images in the second phase; 0 for no such phase."""

    def __init__(self, classifier: Classifier, options: Any) -> None:
        """Wrap a classifier.

        Args:
            classifier: The classifier to train.
            options: Options as returned by `parse`.
        """
        super().__init__()
        self.classifier = classifier
        self.options = options

    @classmethod
    def name(cls) -> str:
        """Return the method's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Any:
        """Return an instance of `Options` from values by name.

        Raises:
            ValueError: If an option is unknown or its value is invalid.
        """
        known = [field.name for field in dataclasses.fields(cls.Options)]
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(
                f"{cls.name()} has no option {', '.join(unknown)}; "
                f"its options are: {', '.join(known) or 'none'}"
            )
        return cls.Options(**options)

    @classmethod
    def sees_target(cls) -> bool:
        """Return whether the method needs images of a target in either phase."""
        return cls.needs.target or cls.adapt_passes > 0

    @property
    def eval_model(self) -> Classifier:
        """The model to evaluate and save; some methods return a teacher."""
        return self.classifier

    def setup(self, info: TrainingInfo) -> None:
        """Add modules and buffers that depend on the data, before the optimizer is created.

        Raises:
            ValueError: If the method cannot train in this setting.
        """
        self.supervised = SupervisedLoss(
            info.class_counts, info.logit_adjustment, info.lineage, info.label_smoothing,
            info.present, info.effective_numbers,
        )  # fmt: skip
        self.target_label_weight = info.target_label_weight
        self.num_sources = len(info.source_domains)

    def solve(self, features: Tensor, labels: Tensor, target: Tensor | None) -> None:
        """Compute the head from all source features (N, d), their labels (N,), and the target's.

        Called once, after `setup`, if `closed_form` is set. The target's features (M, d) are
        unlabeled; without a target they are None.
        """
        raise NotImplementedError

    def forward(self, batch: Batch | TargetBatch) -> LossTerms:
        """Return the loss terms of the phase that the batch belongs to.

        Labeled target samples join every method's loss here, in a forward pass of their own.
        """
        terms = self.adapt(batch) if isinstance(batch, TargetBatch) else self.fit(batch)
        if batch.labeled is None:
            return terms
        logits = self.classifier(batch.labeled.inputs).logits
        loss = self.supervised(logits, batch.labeled.labels, None).mean()
        total = terms["loss"] + self.target_label_weight * loss
        return {**terms, "loss": total, "target_labels": loss.detach()}

    def fit(self, batch: Batch) -> LossTerms:
        """Return the loss terms of a source and target batch; by default the supervised loss."""
        return {"loss": self.supervised_loss(self.classifier(batch.source.inputs), batch)}

    def start_adapting(self) -> None:
        """Prepare the second phase before its optimizer is created, e.g. freeze weights."""

    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Return the loss terms of a target batch; without trainable weights, no gradient."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Run after each optimizer step, e.g. to update an averaged teacher."""

    def supervised_loss(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean supervised loss () of the source samples."""
        source = batch.source
        loss: Tensor = self.supervised(output.logits, source.labels, source.domains).mean()
        return loss

    def forward_source_target(self, batch: Batch) -> tuple[Output, Output]:
        """Return the classifier's outputs for source and target, from a single pass."""
        assert batch.target is not None
        output_s, output_t = forward_together(
            self.classifier, batch.source.inputs, batch.target.inputs
        )
        return output_s, output_t


class PenaltyMethod(Method):
    """The supervised loss plus `options.weight` times a penalty on source and target outputs."""

    needs = Needs(target=True)
    family: ClassVar[Family] = "adaptation"
    penalty_name: ClassVar[str]
    """Name of the penalty among the loss terms."""

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted penalty, and both terms alone."""
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        penalty = self.penalty(output_s, output_t, batch)
        loss = supervised + self.options.weight * penalty
        terms = {"loss": loss, "supervised": supervised.detach()}
        return {**terms, self.penalty_name: penalty.detach()}

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the penalty ()."""
        raise NotImplementedError

    def weights(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor | None:
        """Return importance weights of this process's source samples (B_s,), or None if equal."""
        return None


def method_names() -> tuple[str, ...]:
    """Return the names of all methods in alphabetical order."""
    import hf_wbc.adaptation.methods as package

    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_method(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        ValueError: If there is no such method; the message suggests the nearest name.
    """
    names = method_names()
    if name not in names:
        raise ValueError(f"unknown method {name!r}; {did_you_mean(name, names)}")
    method: type[Method] = importlib.import_module(f"hf_wbc.adaptation.methods.{name}").METHOD
    return method
