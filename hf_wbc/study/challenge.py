"""What others reported on the challenge's unseen laboratory: rows to stand beside our own.

They are marked as reported. None of these numbers was measured here: neither models nor labels of
the challenge are at hand, and the participants' own reports were not read.
"""

from dataclasses import dataclass

CHALLENGE = (
    "Help a hematologist out!, Helmholtz Data Challenges 2022, "
    "https://helmholtz-data-challenges.de/web/challenges/challenge-page/93/overview"
)


@dataclass(frozen=True)
class Reported:
    """A score that somebody else measured."""

    method: str
    network: str
    """As far as it is known; empty when not."""
    rank: int | None
    """In the challenge."""
    sources: tuple[str, ...]
    target: str
    macro_f1: float
    accuracy: float
    """Reported as micro-F1, which is accuracy where each image has one class."""
    remarks: str
    citation: str = CHALLENGE
    kind: str = "reported"


_TRAINED_ON = ("acevedo_20", "matek_19")
PARTICIPANTS = (
    Reported(
        "strong augmentation, target's hue and mean, test-time flips, mean of 5 folds",
        "ResNet-34",
        1,
        _TRAINED_ON,
        "wbc_2",
        0.67,
        0.78,
        "no adversarial loss",
    ),
    Reported("rotation-equivariant network", "ResNet", 2, _TRAINED_ON, "wbc_2", 0.66, 0.76, ""),
    Reported("CycleGAN", "ResNet-18", 3, _TRAINED_ON, "wbc_2", 0.63, 0.75, ""),
    Reported("MDD", "", None, _TRAINED_ON, "wbc_1", 0.67, 0.75, "chosen by SND"),
    Reported(
        "MDD",
        "",
        None,
        _TRAINED_ON,
        "wbc_2",
        0.54,
        0.59,
        "chosen by SND; 0.67 on wbc_1",
    ),
)
"""Entries of 2022, best first on the test set; the target's labels were the organisers'."""


def reported(target: str) -> tuple[Reported, ...]:
    """The rows of one target, `wbc_2`; none for a laboratory that the challenge did not have."""
    return tuple(row for row in PARTICIPANTS if row.target == target)
