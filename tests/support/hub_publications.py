"""Small publications for tests, and their destinations."""

from typing import Any

from hf_wbc.hub.publication import HubRepo, Publication

CELLS = HubRepo("lab/cells", "dataset")
MODEL = HubRepo("lab/model", "model")
CARD = b"---\nlicense: other\n---\n\n# Cells\n"


def small(kind: Any = "dataset", public: bool = False, **files: Any) -> Publication:
    """Build a publication of a card and the given files; `a_b=...` is the file a.b."""
    named = {name.replace("_", "."): content for name, content in files.items()}
    return Publication(kind, {"README.md": CARD, **named}, public, "Publish")
