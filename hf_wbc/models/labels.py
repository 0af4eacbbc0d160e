"""The labels in a transformers configuration: those of the eleven classes, in their order."""

from typing import Any

from hf_wbc.taxonomy import NAMES

_NUM_SHOWN = 11


def labels_of(config: Any) -> tuple[str, ...]:
    """Its labels by class id."""
    return tuple(config.id2label[index] for index in sorted(config.id2label))


def set_labels(config: Any) -> None:
    """Give it the eleven, both ways round."""
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {label: index for index, label in enumerate(NAMES)}
    if hasattr(config, "label_names"):  # timm's own list, which would outlive ours when saved
        config.label_names = list(NAMES)


def require_labels(name: str, labels: tuple[str, ...]) -> None:
    """ValueError with every difference, unless the labels are the eleven in their order."""
    if labels == NAMES:
        return
    parts = []
    if lacking := [label for label in NAMES if label not in labels]:
        parts.append(f"lacks {', '.join(lacking)}")
    if foreign := [label for label in labels if label not in NAMES]:
        rest = len(foreign) - _NUM_SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        parts.append(f"knows {', '.join(foreign[:_NUM_SHOWN])}{more}")
    if not parts:
        parts.append(f"has them in another order ({', '.join(labels)})")
    raise ValueError(
        f"{name} is no model of the eleven classes: it {'; it '.join(parts)}. "
        f"Train one from it with --model {name}"
    )
