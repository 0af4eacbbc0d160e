"""A dataset's card as it is published: where others load it from, and its classes as a picture."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_wbc.hub.card import Place
from hf_wbc.prepare.source import Source
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

PICTURE = "classes.png"
ALT = "Images by class and split"
_PLACE = re.compile(r'^place = ".*$', re.MULTILINE)
_LOADING = 'load_dataset(place, "cropped", split="train")'
_CLASSES = "## Classes\n"
_FRONT = re.compile(r"---\n.*?\n(?=---\n)", re.DOTALL)
_GATE = """\
extra_gated_heading: Ask for access to {title}
extra_gated_prompt: >-
  Nothing says that these images may be passed on. Whoever gets access keeps them to themselves,
  publishes none of them, and does not try to find out whose blood it is.
extra_gated_button_content: I agree, and ask for access
"""


def published_card(text: str, source: Source, place: Place) -> str:
    """The card that `hf-wbc prepare` wrote, for those who load it from `place`.

    A source that must not be passed on gets the words of a gate, for an owner who lets others ask
    for access; what somebody has changed in the card by hand stays.
    """
    text = _PLACE.sub(lambda _: f'place = "{place.name}"', text, count=1)
    text = text.replace(_LOADING, f"{_LOADING[:-1]}{place.pin})", 1)
    if _CLASSES in text and PICTURE not in text:
        text = text.replace(_CLASSES, f"{_CLASSES}\n![{ALT}]({PICTURE})\n", 1)
    if not source.redistributable and "extra_gated_prompt" not in text:
        gate = _GATE.format(title=source.name)
        text = _FRONT.sub(lambda front: front[0] + gate, text, count=1)
    return text


def class_picture(shards: Sequence[Path], splits: Sequence[str]) -> bytes:
    """PNG of images by class and split, read from the rows; unlabelled ones are not in it.

    `shards` are the Parquet files of one configuration, and `splits` their splits.
    """
    import pyarrow.parquet as pq

    from hf_wbc.plots.class_distribution import draw_class_matrix
    from hf_wbc.plots.html import png

    counts = {split: np.zeros(NUM_CLASSES, np.int64) for split in dict.fromkeys(splits)}
    for shard, split in zip(shards, splits, strict=True):
        labels = pq.read_table(shard, columns=["label"])["label"].to_numpy()
        counts[split] += np.bincount(labels[labels >= 0], minlength=NUM_CLASSES)
    named = {
        split: dict(zip(NAMES, numbers.tolist(), strict=True)) for split, numbers in counts.items()
    }
    return png(draw_class_matrix(named))
