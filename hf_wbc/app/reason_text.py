"""Attributes of a cell as words: round red granules, a bilobed nucleus."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_wbc.app.page_text import with_article

if TYPE_CHECKING:
    from hf_wbc.inference.attribute_reasons import Reason
    from hf_wbc.inference.cell_prediction import CellPrediction

__all__ = ["describe_attributes", "reason_sentences"]

PHRASES: Mapping[tuple[str, str], str] = {
    ("cell_size", "big"): "large cell",
    ("cell_size", "small"): "small cell",
    ("cell_shape", "round"): "round outline",
    ("cell_shape", "irregular"): "irregular outline",
    ("nucleus_shape", "unsegmented-band"): "band-shaped nucleus",
    ("nucleus_shape", "unsegmented-round"): "round nucleus",
    ("nucleus_shape", "unsegmented-indented"): "indented nucleus",
    ("nucleus_shape", "segmented-bilobed"): "bilobed nucleus",
    ("nucleus_shape", "segmented-multilobed"): "multilobed nucleus",
    ("nucleus_shape", "irregular"): "irregular nucleus",
    ("nuclear_cytoplasmic_ratio", "low"): "low nuclear-cytoplasmic ratio",
    ("nuclear_cytoplasmic_ratio", "high"): "high nuclear-cytoplasmic ratio",
    ("chromatin_density", "densely"): "dense chromatin",
    ("chromatin_density", "loosely"): "loose chromatin",
    ("cytoplasm_vacuole", "yes"): "vacuoles",
    ("cytoplasm_vacuole", "no"): "no vacuoles",
    ("cytoplasm_texture", "clear"): "clear cytoplasm",
    ("cytoplasm_texture", "frosted"): "frosted cytoplasm",
}
"""Words for values of WBCAtt that say more than `attribute: value`."""
GRANULES = ("granule_type", "granule_colour", "granularity")
NONE = ("nil", "no")


def describe_attributes(reasons: "Sequence[Reason]") -> list[str]:
    """Return one phrase for each attribute; those of granules become one phrase.

    >>> from hf_wbc.inference.attribute_reasons import Reason
    >>> values = {"granule_type": "round", "granule_colour": "red", "granularity": "yes"}
    >>> describe_attributes([Reason(name, value, 0.9, True) for name, value in values.items()])
    ['round red granules']
    """
    values = {each.attribute: each.value for each in reasons}
    granules = [values[name] for name in GRANULES if name in values]
    phrases = []
    if any(value in NONE for value in granules):
        phrases.append("no granules")
    elif granules:
        phrases.append(" ".join([*(value for value in granules if value != "yes"), "granules"]))
    for name, value in values.items():
        if name not in GRANULES:
            plain = f"{value} {name}" if name == "cytoplasm_colour" else f"{name}: {value}"
            phrase = PHRASES.get((name, value), plain)
            phrases.append(phrase.replace("_", " ").replace("cytoplasm colour", "cytoplasm"))
    return phrases


def reason_sentences(prediction: "CellPrediction") -> list[str]:
    """Say which attributes fit the predicted class, and which are unusual for it; often none."""
    named = with_article(prediction.label)
    fitting = [each for each in prediction.reasons if each.is_typical]
    unusual = [each for each in prediction.reasons if not each.is_typical]
    sentences = []
    if fitting:
        sentences.append(f"Called {named} because: {', '.join(describe_attributes(fitting))}.")
    if unusual:
        sentences.append(f"Unusual for {named}: {', '.join(describe_attributes(unusual))}.")
    return sentences
