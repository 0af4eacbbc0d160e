"""Read patient, visit and class from the folders of an image, as laboratories arrange them.

A layout names the folders: `{patient}/Signed slides/{class}` describes
`Patient_00/Signed slides/Blast/12.jpg`. Folders above and below it do not matter, nor does case.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

from hf_wbc.text import did_you_mean

PLACES = ("patient", "visit", "class")
_PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class LayoutMatch:
    """What the folders of an image say; a field that the layout lacks is empty."""

    root: str
    """The folders above the layout."""
    patient: str
    visit: str
    class_folder: str
    rest: str
    """The folders below the layout."""
    file: str


@dataclass(frozen=True)
class FolderLayout:
    """The folders in which a laboratory keeps its images."""

    text: str
    """As a person writes it, such as `{patient}/Signed slides/{class}`."""

    def __post_init__(self) -> None:
        names = _PLACE.findall(self.text)
        for name in names:
            if name not in PLACES:
                raise ValueError(
                    f"the layout {self.text!r} has the unknown place {{{name}}}; "
                    f"{did_you_mean(name, PLACES)}"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"the layout {self.text!r} names a place twice; name each once")
        if not {"patient", "class"} & set(names):
            raise ValueError(
                f"the layout {self.text!r} has neither {{patient}} nor {{class}}; write, for "
                "example, {patient}/Signed slides/{class}"
            )
        rest = _PLACE.sub("", self.text)
        if "{" in rest or "}" in rest or "\\" in rest or "" in self.text.split("/"):
            raise ValueError(
                f"the layout {self.text!r} is malformed; write folders separated by single /, and "
                "places in braces"
            )

    @property
    def has_class(self) -> bool:
        """Whether the folders name the class; without it, the images are unlabeled."""
        return "{class}" in self.text

    def match(self, name: str) -> LayoutMatch | None:
        """Return what the path of an image within an archive says; None if it does not fit.

        >>> layout = FolderLayout("{patient}/Signed slides/{class}")
        >>> layout.match("export/P_01/signed slides/Blast/7.jpg").patient
        'P_01'
        >>> layout.match("export/P_01/Unsigned slides/7.jpg") is None
        True
        """
        found = re.fullmatch(self._pattern, normalize("NFC", name), re.IGNORECASE)
        if found is None:
            return None
        values = {key: value or "" for key, value in found.groupdict().items()}
        return LayoutMatch(
            values["root"],
            values.get("patient", ""),
            values.get("visit", ""),
            values.get("class", ""),
            values["rest"],
            values["file"],
        )

    @property
    def _pattern(self) -> str:
        parts = _PLACE.split(normalize("NFC", self.text))  # literals and places in turn
        inner = "".join(
            rf"(?P<{part}>[^/]+?)" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )
        return rf"(?:(?P<root>.+?)/)?{inner}/(?:(?P<rest>.+)/)?(?P<file>[^/]+)"


def match_layouts(
    layouts: Sequence[FolderLayout], name: str
) -> tuple[FolderLayout, LayoutMatch] | None:
    """Return the first layout that fits a path, and what it says; None if none fits."""
    for layout in layouts:
        if (found := layout.match(name)) is not None:
            return layout, found
    return None
