"""Which weights of a classifier learn, and which running statistics move."""

from typing import Literal, get_args

from hf_wbc.models.classifier import Classifier
from hf_wbc.models.lora import Lora, add_lora

Trainable = Literal["full", "frozen", "lora"]
BatchNorm = Literal["train", "frozen"]


def freeze(
    classifier: Classifier,
    trainable: Trainable = "full",
    batch_norm: BatchNorm = "train",
    lora: Lora | None = None,
    seed: int = 0,
) -> None:
    """Set once, before the optimizer is made; it holds through every later `train()`.

    A frozen backbone is in evaluation mode, its weights and statistics fixed, and so is any dropout
    before the head: a linear probe on images then learns what one on embedded features learns.
    Frozen BatchNorm keeps its running statistics, while its scale and shift still learn. With
    "lora" head and updates of the attention learn, the latter drawn from `seed` (see `add_lora`).
    ValueError for another word, or a model that LoRA does not fit.
    """
    for name, value, words in (
        ("trainable", trainable, get_args(Trainable)),
        ("batch_norm", batch_norm, get_args(BatchNorm)),
    ):
        if value not in words:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(words)}")
    classifier.backbone_frozen = trainable == "frozen"
    classifier.batch_norm_frozen = batch_norm == "frozen"
    if trainable == "frozen":
        classifier.model.requires_grad_(False)
        classifier.head.requires_grad_(True)  # a bottleneck is no part of the model, and learns
    elif trainable == "lora":
        add_lora(classifier, lora or Lora(), seed)
    classifier.train(classifier.training)
