"""`TrainConfig`: everything that decides the result of a run, and nothing that does not.

Where a run is written, which tracker listens and on which device it runs are no part of it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

T = TypeVar("T")
TargetStyle = Literal["colours", "reinhard", "macenko", "histogram", "fourier"]


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes to a training image; zero everywhere is "none"."""

    flips: bool = True
    """Mirror left-right and top-bottom, each with probability one half."""
    quarter_turns: bool = True
    """Turn by 0, 90, 180 or 270 degrees."""
    rotation_deg: float = 0.0
    """Turn further by up to this many degrees either way."""
    shift_um: float = 1.0
    """Move the frame by up to this many um in x and in y."""
    scale_um: float = 1.0
    """Widen or narrow the 25 um frame by up to this many um."""
    brightness: float = 0.2
    """Multiply intensities by 1 +- this."""
    contrast: float = 0.2
    """Stretch around the image's mean grey by 1 +- this."""
    saturation: float = 0.2
    """Mix with the grey image by 1 +- this."""
    hue: float = 0.05
    """Turn the hue circle by up to this fraction either way."""
    stain: float = 0.0
    """Scale and shift each dye's optical density by up to this; .05 is light, .2 strong."""
    target_shift: float = 0.0
    """Move source images by up to this fraction of the way to the unlabelled target's style."""
    target_style: TargetStyle = "colours"
    """The style: mean and covariance of colours, mean and std in l alpha beta, dyes, levels of each
    channel, or the lowest frequencies of a random target image."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    sources: tuple[str, ...]
    """Labelled domains: prepared folders or Hub datasets, `org/name` or `org/name@revision`."""
    target: tuple[str, ...] = ()
    """Unlabelled domains to adapt to and to be scored on; none for in-domain training."""
    held_out: tuple[str, ...] = ()
    """Labelled domains that are not trained on, for `selection held_out` (leave one source out)."""
    method: str = "source_only"
    """The training method, by the name of its file in hf_wbc/adaptation."""
    method_options: dict[str, int | float | bool | str] = field(default_factory=dict)
    """The method's own options, as NAME VALUE pairs; the method checks them."""
    model: str = "vit-tiny"
    """A ready name, a Hub model `org/name[@revision]`, or a folder of a transformers classifier."""
    fresh: bool = False
    """Start from random weights: only the model's configuration is read."""
    inputs: Literal["images", "features"] = "images"
    """Train on images, or only the head on the frozen backbone's embedded features."""
    trainable: Literal["full", "frozen", "lora"] = "full"
    """Which weights learn: all, the head alone, or the head and LoRA's updates of attention."""
    lora_rank: int = 8
    """Width of LoRA's updates."""
    lora_alpha: float = 16.0
    """Their weight, alpha / rank."""
    batch_norm: Literal["train", "frozen"] = "train"
    """BatchNorm statistics: follow the batches, or stay as they were pre-trained."""
    bottleneck: int | None = None
    """Width of a linear bottleneck before the head, folded into it when saved; 0 is none, None is
    256 on a frozen backbone and none on one that learns."""
    image_size: int | None = None
    """Side of the model's input in pixels; None takes the checkpoint's own."""
    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 64
    """Source images (and as many target images) per process and forward pass."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    lr: float = 1e-4
    """Peak learning rate of the head and the last block."""
    weight_decay: float = 0.05
    """AdamW's decay; biases and norms have none."""
    layer_decay: float = 1.0
    """Each block towards the input learns at this fraction of the next one's rate."""
    warmup: float = 0.1
    """Fraction of the steps in which the learning rate rises; then it falls as a cosine."""
    clip: float = 1.0
    """Largest gradient norm; 0 leaves gradients as they are."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0 keeps the raw ones."""
    swad: bool = False
    """Evaluate and save the mean of all weights in the valley of the sources' validation loss."""
    adapt_steps: int | None = None
    """Steps of the method's second phase, on target images alone; None takes the method's own."""
    adapt_lr: float | None = None
    """Peak learning rate of the second phase; None takes a tenth of `lr`."""
    logit_adjustment: float = 0.0
    """Add this times the log prior of each source to the logits in training; 1 is the paper's."""
    lineage: float = 0.0
    """Softness of labels along lineage and maturation, about 0.2 to 0.5; 0 is none."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; weights stay fp32."""
    balance: Literal["class_domain", "domain", "none"] = "class_domain"
    """Draw every class of every domain alike, every domain alike, or every image alike."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes to training images."""
    normalise_by: Literal["checkpoint", "domain"] = "checkpoint"
    """Mean and std of the checkpoint, or of each domain's own training images, always."""
    sharpness: Literal["own", "common"] = "own"
    """Of each domain as it is, or as the blurriest's, always; measured without labels."""
    blur_um: float = 0.0
    """Standard deviation of a Gaussian blur of every image, always, after `sharpness`."""
    evaluate_every: int = 200
    """Steps between evaluations, each of which also saves a checkpoint."""
    patience: int = 0
    """Evaluations without a better selection score before stopping; 0 never stops early."""
    selection: str = "source_val"
    """The rule that picks the weights to keep."""
    oracle: bool = False
    """Score target labels at every evaluation too, only to judge the rules afterwards."""
    correct_priors: Literal["none", "bbse", "em", "rlls"] = "none"
    """Correct the saved model for the target's class priors, estimated without labels."""
    test_time_flips: bool = False
    """Predict the mean over an image, its mirror images and its half turn."""
    merge: tuple[str, ...] = ()
    """Classes scored as one, as FROM=INTO, for sets that know fewer than eleven."""
    classes: tuple[str, ...] = ()
    """Classes to score; none means those present in the references."""
    allow_unscaled: bool = False
    """Accept datasets whose scale is unknown (the cell fills the frame)."""
    allow_single: bool = False
    """Accept sources of which a class has one training image."""
    seed: int = 0
    """Seed of weights, order and augmentation."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("no sources; name at least one with --sources")
        for each in fields(self):
            words, value = get_args(each.type), getattr(self, each.name)
            if get_origin(each.type) is Literal and value not in words:
                raise ValueError(f"{each.name} is {value!r}; choose from {', '.join(words)}")
        for name in ("steps", "batch_size", "accumulation", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "lr", "weight_decay", "clip", "patience", "seed", "bottleneck", "adapt_steps",
            "adapt_lr", "logit_adjustment", "lineage",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
            if value == math.inf:
                raise ValueError(f"{name} is {value}; it must be finite")
        if self.ema and self.swad:
            raise ValueError(f"ema is {self.ema} and swad is on; both average weights, choose one")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}; it must lie in (0, 1]")
        self._check_images()

    def _check_images(self) -> None:
        """ValueError for treatments and changes of images that cannot be, or not together."""
        if not 0 <= self.blur_um <= 5:
            raise ValueError(f"blur_um is {self.blur_um}; it must lie in 0..5")
        shift, by_domain = self.augmentation.target_shift, self.normalise_by == "domain"
        style, styles = self.augmentation.target_style, get_args(TargetStyle)
        if style not in styles:
            raise ValueError(
                f"augmentation.target_style is {style!r}; choose from {', '.join(styles)}"
            )
        if shift and not self.target:
            raise ValueError(
                f"augmentation.target_shift is {shift}, which needs a target's images (no labels); "
                "name one with --target, or leave it at 0"
            )
        if shift and by_domain:
            raise ValueError(
                "normalise_by domain takes away the colours that augmentation.target_shift gives; "
                "leave one of them out"
            )
        changes_images = shift or self.augmentation.stain or self.blur_um
        if self.inputs == "features" and self.trainable == "lora":
            raise ValueError("embedded features have no attention to adapt; use --inputs images")
        if self.inputs == "features" and self.test_time_flips:
            raise ValueError("embedded features cannot be flipped; use --inputs images")
        if self.inputs == "features" and (changes_images or by_domain or self.sharpness != "own"):
            raise ValueError(
                "embedded features are of plain images; for stain, target_shift, normalise_by, "
                "sharpness and blur_um use --inputs images"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; tuples become lists."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; ValueError for keys that no field has."""
        return _build(cls, values)


def _build(cls: type[T], values: Mapping[str, Any]) -> T:
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown {cls.__name__} keys: {', '.join(unknown)}")
    made = {}
    for name, value in values.items():
        kind = known[name].type
        if isinstance(kind, type) and is_dataclass(kind):
            value = _build(kind, value)
        made[name] = tuple(value) if isinstance(value, list) else value
    return cls(**made)
