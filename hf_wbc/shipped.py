"""Where the folders lie that ship with the code: `model_cards` and `spaces`.

In a checkout they stand beside the package, in an installed wheel inside it.
"""

from pathlib import Path


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as `model_cards/dataset.md`."""
    package = Path(__file__).parent
    for root in (package / "_share", package.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is not part of this installation; install hf_wbc again")
