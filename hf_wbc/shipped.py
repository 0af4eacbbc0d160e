"""Locate the folders that ship with the code: `model_cards` and `spaces`.

They are beside the package in a checkout, and inside it in an installed wheel.
"""

from pathlib import Path


def shipped(*names: str) -> Path:
    """Return the path of a shipped file or folder, such as `model_cards/dataset.md`.

    Args:
        *names: Relative paths; the first one that exists is taken.

    Raises:
        FileNotFoundError: If it is not part of the installation.
    """
    package = Path(__file__).parent
    for name in names:
        for root in (package / "_share", package.parent):
            if (root / name).exists():
                return root / name
    raise FileNotFoundError(f"{names[0]} is not part of this installation; install hf_wbc again")
