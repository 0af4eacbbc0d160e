"""Locate the folders that ship with the code: `model_cards` and `spaces`.

They are beside the package in a checkout, and inside it in an installed wheel.
"""

from pathlib import Path


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder, such as `model_cards/dataset.md`.

    Raises:
        FileNotFoundError: If it is not part of the installation.
    """
    package = Path(__file__).parent
    for root in (package / "_share", package.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is not part of this installation; install hf_wbc again")
