"""The groups of `TrainConfig`, each of which checks its own values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin

__all__ = [
    "ADDED_AUGMENTATION",
    "AUGMENTATIONS",
    "AdaptConfig",
    "Augmentation",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "OptimConfig",
    "TargetStyle",
    "check_not_negative",
]

FeatureRuntime = Literal["torch", "openvino", "onnx", "compile"]
TargetStyle = Literal[
    "colors", "colours", "reinhard", "macenko", "vahadane", "histogram", "fourier", "grayscale"
]


def check_choices(group: Any, prefix: str = "") -> None:
    """ValueError for a value that its field's Literal does not list."""
    for each in fields(group):
        choices, value = get_args(each.type), getattr(group, each.name)
        if get_origin(each.type) is Literal and value not in choices:
            raise ValueError(f"{prefix}{each.name} is {value!r}; choose from {', '.join(choices)}")


def check_positive(group: Any, names: Iterable[str]) -> None:
    """ValueError for values below 1."""
    for name in names:
        if getattr(group, name) < 1:
            raise ValueError(f"{name} is {getattr(group, name)}; it must be at least 1")


def check_not_negative(group: Any, names: Iterable[str]) -> None:
    """ValueError for values that are negative, infinite or not a number; None is allowed."""
    for name in names:
        value = getattr(group, name)
        if value is not None and not value >= 0:
            raise ValueError(f"{name} is {value}; it must not be negative")
        if value == math.inf:
            raise ValueError(f"{name} is {value}; it must be finite")


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes to a training image; all zero means none.

    The defaults are the robust recipe; `AUGMENTATIONS` holds the other named strengths.
    """

    flips: bool = True
    """Mirror left-right and top-bottom, each with probability 1/2."""
    quarter_turns: bool = True
    """Rotate by 0, 90, 180 or 270 degrees."""
    rotation_deg: float = 45.0
    """Rotate further by up to this many degrees in either direction."""
    shift_um: float = 2.0
    """Shift the crop by up to this many um in x and in y."""
    scale_um: float = 6.0
    """Widen or narrow the 25 um crop by up to this many um."""
    brightness: float = 0.5
    """Multiply intensities by a factor in 1 +- this."""
    contrast: float = 0.5
    """Stretch intensities around the image's mean gray by a factor in 1 +- this."""
    saturation: float = 0.7
    """Blend with the grayscale image, by a factor in 1 +- this."""
    hue: float = 0.1
    """Rotate the hue by up to this fraction of the color circle."""
    channel_gain: float = 0.3
    """Multiply red, green and blue each by a factor in 1 +- this (white balance)."""
    gamma: float = 0.4
    """Raise intensities to a power between exp(-this) and exp(this)."""
    defocus_um: float = 0.3
    """Blur half of the images by a Gaussian of up to this standard deviation in um."""
    noise: float = 0.05
    """Add Gaussian noise of up to this standard deviation, as a fraction of full intensity."""
    stain: float = 0.0
    """Scale and shift each dye's optical density by up to this; .05 is light, .2 strong."""
    target_shift: float = 0.0
    """Move source images by up to this fraction of the way to the unlabeled target's style."""
    target_style: TargetStyle = "colors"
    """What is transferred: mean and covariance of colors, mean and std in l alpha beta, dyes
    (macenko, vahadane), each channel's histogram, or the lowest frequencies of a random target
    image; grayscale removes color. "colours" is read as "colors"."""

    def __post_init__(self) -> None:
        check_choices(self, "augmentation.")
        if self.target_style == "colours":
            object.__setattr__(self, "target_style", "colors")


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "robust": Augmentation(),
    "light": Augmentation(
        rotation_deg=0.0,
        shift_um=1.0,
        scale_um=1.0,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
        channel_gain=0.0,
        gamma=0.0,
        defocus_um=0.0,
        noise=0.0,
    ),
    "none": Augmentation(
        flips=False,
        quarter_turns=False,
        rotation_deg=0.0,
        shift_um=0.0,
        scale_um=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        channel_gain=0.0,
        gamma=0.0,
        defocus_um=0.0,
        noise=0.0,
    ),
}
"""Named strengths: robust survives a change of laboratory, light does not, none changes nothing."""
ADDED_AUGMENTATION = ("channel_gain", "gamma", "defocus_um", "noise")
"""Fields that older records lack; they were trained without these changes."""


@dataclass(frozen=True)
class DataConfig:
    """Which images are trained on, and what happens to them before the model."""

    sources: tuple[str, ...]
    """Labeled domains: prepared folders or Hub datasets `org/name[@revision]`."""
    target: tuple[str, ...] = ()
    """Unlabeled domains to adapt to and to score; none for in-domain training."""
    target_labels: str | None = None
    """Labels file of `hf-wbc label` for some training images of the target, which join the
    supervised loss; None trains without a label of the target."""
    target_label_weight: float = 1.0
    """Weight of the loss on them, relative to the sources' loss."""
    target_label_budget: int | None = None
    """Train with the first labels of the file only, this many; 0 is none, None is all."""
    held_out: tuple[str, ...] = ()
    """Labeled domains that are not trained on, for `selection held_out` (leave one source out)."""
    balance: Literal["class_domain", "domain", "none"] = "class_domain"
    """Sample uniformly over the classes of each domain, over domains, or over images."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes to training images; Python code also takes a name of `AUGMENTATIONS`."""
    normalize_by: Literal["checkpoint", "domain"] = "checkpoint"
    """Mean and std of the checkpoint, or of each domain's training images; also at prediction."""
    sharpness: Literal["own", "common"] = "own"
    """Leave each domain's sharpness as it is, or blur all to the least sharp; without labels."""
    blur_um: float = 0.0
    """Standard deviation in um of a Gaussian blur of every image, applied after `sharpness`."""
    allow_unscaled: bool = False
    """Accept datasets of unknown scale (the cell fills the frame)."""
    allow_single: bool = False
    """Has no effect any more: a class with a single training image is a note in the record."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentation", named_augmentation(self.augmentation))
        check_choices(self)
        if not self.sources:
            raise ValueError("no sources; name at least one with --sources")
        check_not_negative(self, ("target_label_budget",))
        if not 0 < self.target_label_weight < math.inf:
            raise ValueError(
                f"target_label_weight is {self.target_label_weight}; it must be positive (use "
                "target_label_budget 0 to train without these labels)"
            )
        if self.target_labels is not None and len(self.target) != 1:
            raise ValueError(
                f"target_labels {self.target_labels} is of one laboratory, but {len(self.target)} "
                "targets are given; name one with --target"
            )
        if not 0 <= self.blur_um <= 5:
            raise ValueError(f"blur_um is {self.blur_um}; it must lie in 0..5")
        shift = self.augmentation.target_shift
        if shift and not self.target:
            raise ValueError(
                f"augmentation.target_shift is {shift}, which needs a target's images (no labels); "
                "name one with --target, or leave it at 0"
            )
        if shift and self.normalize_by == "domain":
            raise ValueError(
                "normalize_by domain removes the colors that augmentation.target_shift adds; "
                "use one of them"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and which part of it."""

    name: str = "vit-tiny"
    """A built-in name, a Hub model `org/name[@revision]`, or a folder with a transformers
    classifier."""
    from_scratch: bool = False
    """Start from random weights: only the model's configuration is read."""
    inputs: Literal["images", "features"] = "images"
    """Train on images, or only the head on the frozen backbone's embedded features."""
    feature_runtime: FeatureRuntime | None = None
    """What computed the features; None takes those of another runtime that `hf-wbc embed` left in
    the cache, if they are complete, and torch otherwise."""
    feature_views: int = 0
    """Train on this many augmented views of each image's features, one drawn for each step, instead
    of the features of unchanged images; 0 is none."""
    trainable: Literal["full", "frozen", "lora"] = "full"
    """Train all weights, the head, or the head and LoRA updates."""
    lora_rank: int = 8
    """Rank of the LoRA updates."""
    lora_alpha: float = 16.0
    """Scale of the LoRA updates, alpha / rank."""
    batch_norm: Literal["train", "frozen"] = "train"
    """BatchNorm statistics: updated in training, or kept as pre-trained."""
    bottleneck: int | None = None
    """Width of a linear bottleneck before the head, merged into it when saved; 0 is none, None is
    256 on a frozen backbone and none otherwise."""
    image_size: int | None = None
    """Side of the model's input in pixels; None takes the checkpoint's own."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, ("bottleneck", "feature_views"))
        runtimes = get_args(FeatureRuntime)
        if self.feature_runtime is not None and self.feature_runtime not in runtimes:
            raise ValueError(
                f"feature_runtime is {self.feature_runtime!r}; choose from {', '.join(runtimes)}"
            )
        if self.inputs == "images":
            for name in ("feature_runtime", "feature_views"):
                if value := getattr(self, name):
                    raise ValueError(f"{name} is {value}, which needs --inputs features")
        if self.inputs == "features" and self.trainable == "lora":
            raise ValueError("embedded features have no attention to adapt; use --inputs images")


@dataclass(frozen=True)
class OptimConfig:
    """The supervised loss, the optimizer and its schedule, and weight averaging."""

    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 64
    """Source (and target) images per process and forward pass."""
    learning_rate: float = 1e-4
    """Peak learning rate of the head and the last block."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    weight_decay: float = 0.05
    """AdamW's weight decay; biases and norms have none."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one below it, towards the input."""
    warmup_ratio: float = 0.1
    """Fraction of the steps in which the learning rate rises; then it follows a cosine to 0."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 does not clip."""
    mixed_precision: Literal["no", "fp32", "bf16", "fp16"] = "no"
    """Precision of the forward pass; `no` is fp32."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 is none."""
    swad: bool = False
    """Evaluate and save the mean of all weights in the valley of the sources' validation loss."""
    logit_adjustment: float = 0.0
    """Add this times the log class prior of each source to the logits in training; 1 is the
    paper's."""
    effective_numbers: float = 0.0
    """Weight each class by (1 - b) / (1 - b^n), where n is its number of source images and b is
    this, such as .999; 0 weights no class."""
    label_smoothing: float = 0.0
    """Spread this fraction of each label's mass evenly over the sources' classes; .1 is common."""
    compile: bool = False
    """Compile the network of training steps with torch.compile, which takes a minute at first;
    without a C++ compiler it is left out, and said so."""
    lineage: float = 0.0
    """Soften labels along lineage and maturation, about 0.2 to 0.5; 0 is none."""

    @property
    def images_per_step(self) -> int:
        """Source images per process and optimizer step."""
        return self.batch_size * self.gradient_accumulation_steps

    def __post_init__(self) -> None:
        check_choices(self)
        if self.mixed_precision == "fp32":
            object.__setattr__(self, "mixed_precision", "no")
        check_positive(self, ("steps", "batch_size", "gradient_accumulation_steps"))
        check_not_negative(
            self,
            ("learning_rate", "weight_decay", "max_grad_norm", "logit_adjustment", "lineage"),
        )
        if self.ema and self.swad:
            raise ValueError(f"ema is {self.ema} and swad is on; both average weights, choose one")
        for name in ("warmup_ratio", "ema", "label_smoothing", "effective_numbers"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must lie in (0, 1]")


@dataclass(frozen=True)
class AdaptConfig:
    """The training method and its second phase."""

    method: str = "source_only"
    """The training method; `hf-wbc methods` lists them."""
    method_options: dict[str, int | float | bool | str] = field(default_factory=dict)
    """The method's own options, as NAME VALUE pairs; the method checks them."""
    adapt_steps: int | None = None
    """Steps of the method's second phase, on target images alone; None takes the method's own."""
    adapt_learning_rate: float | None = None
    """Peak learning rate of the second phase; None takes a tenth of `learning_rate`."""

    def __post_init__(self) -> None:
        check_not_negative(self, ("adapt_steps", "adapt_learning_rate"))


@dataclass(frozen=True)
class EvalConfig:
    """When and how weights are scored, chosen and corrected."""

    eval_steps: int = 200
    """Steps between evaluations, which also save a checkpoint."""
    patience: int = 0
    """Evaluations without a better selection score before stopping; 0 never stops early."""
    selection: str = "source_val"
    """The rule that picks the weights to keep."""
    oracle: bool = False
    """Score target labels at every evaluation too, only to judge the rules afterwards."""
    correct_priors: Literal["none", "bbse", "em", "rlls"] = "none"
    """Correct the saved model for the target's class priors, estimated without labels."""
    test_time_flips: bool = False
    """Average the prediction over an image, its mirror images and its half turn."""
    merge: tuple[str, ...] = ()
    """Classes scored as one, as FROM=INTO, for datasets with fewer than eleven."""
    classes: tuple[str, ...] = ()
    """Classes to score; none means those present in the references."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, ("eval_steps",))
        check_not_negative(self, ("patience",))


def named_augmentation(given: Augmentation | str) -> Augmentation:
    """Return the augmentation of a name in `AUGMENTATIONS`; others are returned as they are.

    Raises:
        ValueError: For an unknown name.
    """
    if not isinstance(given, str):
        return given
    if given not in AUGMENTATIONS:
        raise ValueError(f"augmentation is {given!r}; choose from {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[given]
