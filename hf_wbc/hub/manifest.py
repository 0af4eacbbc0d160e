"""What was published last, written beside it: so that the next publication knows what is its own.

Files that others put there stay, ours that are no more are deleted, and a card that somebody edited
is recognised.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from hf_wbc.hub.publication import Publication

MANIFEST = ".hf_wbc.json"


@dataclass(frozen=True)
class Manifest:
    """The files of a publication."""

    kind: str
    files: Mapping[str, str]
    """SHA-256 by path; the card's is of the card as it was rendered, before any hand touched it."""
    subject: str = ""

    @classmethod
    def of(cls, publication: Publication) -> Self:
        return cls(publication.kind, publication.digests, publication.subject)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """ValueError when it is damaged."""
        try:
            values = json.loads(data)
            files = {str(path): str(digest) for path, digest in values["files"].items()}
            return cls(str(values["kind"]), files, str(values.get("subject", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{MANIFEST} of {where} is damaged ({error}); delete it there, and publish again"
            ) from error

    def to_bytes(self) -> bytes:
        values = {
            "kind": self.kind,
            "subject": self.subject,
            "files": dict(sorted(self.files.items())),
        }
        return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
