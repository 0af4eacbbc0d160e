"""List the files of a folder of images, the same way for every command.

Nothing is passed over silently. What operating systems, file servers and editors leave behind
(thumbnails, recycle bins, checkpoints) is junk: it is counted by kind, so that summaries can say
so. Links to files and folders within the root are followed; links that lead back to a folder that
contains them, and links that leave the root, are listed.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_wbc.text import shorten_list

_JUNK_FOLDERS = frozenset({
    "__macosx", "network trash folder", "temporary items",  # macOS
    "$recycle.bin", "recycler", "recycled", "system volume information",  # Windows
    "@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin",  # Synology
    "@recycle", "@recently-snapshot", "@__thumb", ".@__thumb",  # QNAP
    "lost+found", "~snapshot", "_gsdata_", "__pycache__",
})  # fmt: skip
"""Lowercase names of folders whose content is not part of a dataset; so is any hidden folder."""
_JUNK_FILES = frozenset({
    ".ds_store", ".localized", "icon\r",  # macOS
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
    "picasa.ini", ".picasa.ini", "zbthumbnail.info", "pspbrwse.jbf",
    ".directory", ".hidden", ".nomedia", ".gitignore", ".gitattributes", ".gitkeep",
})  # fmt: skip
"""Lowercase names of files that programs write beside images."""
_JUNK_PATTERN = re.compile(
    r"\._.*"  # macOS, on disks of other systems
    r"|\.nfs[0-9a-f]{8,}|\.fuse_hidden.*|\.smb.*|\.syncthing\..*"  # open or unfinished files
    r"|~\$.*|\.~lock\..*#",  # Office
    re.DOTALL,
)
_FOUND = re.compile(r"found\.\d{3}")
"""Folders of a repaired Windows disk."""
MAX_LINKS = 10_000
"""Links to folders that are followed at most; links between folders can multiply without end."""


@dataclass(frozen=True)
class FolderListing:
    """The files of a folder and its subfolders, as POSIX paths within it, sorted."""

    files: tuple[str, ...]
    """All files that are not junk, including hidden ones and what is no regular file."""
    junk: Mapping[str, int]
    """Number of junk files by kind: the name of the folder or file, `._*` or `hidden folders`."""
    links: tuple[str, ...]
    """Links to files and folders that were followed, as `link -> target`."""
    loops: tuple[str, ...]
    """Links to a folder that contains them, which are not followed, as `link -> target`."""
    outside: tuple[str, ...]
    """Links to files and folders outside the root, as `link -> target`."""

    def notes(self) -> list[str]:
        """Return a line for each thing that a summary should mention."""
        lines = [describe_junk(self.junk)] if self.junk else []
        for what, links in (
            ("followed links", self.links),
            ("not followed, because they lead back to a folder that contains them", self.loops),
            ("links that leave the folder", self.outside),
        ):
            if links:
                lines.append(f"{what}: {shorten_list(links)}")
        return lines


def walk_folder(root: Path, *, follow_outside: bool = False) -> FolderListing:
    """List the files of a folder and its subfolders.

    Args:
        root: The folder; it may be a link itself.
        follow_outside: Follow links that leave the root as well. Otherwise their files are not
            listed.

    Raises:
        ValueError: If a folder cannot be read, or links multiply without end.
    """
    return _Walk(root, follow_outside).listing()


def junk_kind(name: str) -> str | None:
    """Return the kind of junk that a POSIX path within a folder or archive is; None if it is none.

    >>> junk_kind("cells/@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg"), junk_kind("cells/a.jpg")
    ('@eaDir', None)
    """
    *folders, file = name.split("/")
    for folder in folders:
        if kind := _junk_folder(folder):
            return kind
    if file.lower() in _JUNK_FILES:
        return file.strip()
    if _JUNK_PATTERN.fullmatch(file):
        return f"{file[:2]}*"
    return None


def describe_junk(junk: Mapping[str, int]) -> str:
    """Summarize junk by kind: `skipped 31 files of other programs: 30 in @eaDir, 1 Thumbs.db`."""
    total = sum(junk.values())
    kinds = [
        f"{number:,} in {kind}" if _junk_folder(kind) or " " in kind else f"{number:,} {kind}"
        for kind, number in sorted(junk.items())
    ]
    files = "file" if total == 1 else "files"
    return f"skipped {total:,} {files} of other programs: {shorten_list(kinds, 10)}"


def _junk_folder(name: str) -> str | None:
    if name.lower() in _JUNK_FOLDERS or _FOUND.fullmatch(name.lower()):
        return name
    if name.startswith(".") and name not in (".", ".."):
        return name if name == ".ipynb_checkpoints" else "hidden folders"
    return None


_Place = tuple[int, int]
"""Device and inode of a folder."""


class _Walk:
    """One walk through a folder."""

    def __init__(self, root: Path, follow_outside: bool) -> None:
        self._root, self._real_root = root, Path(os.path.realpath(root))
        self._follow_outside = follow_outside
        self._files: list[str] = []
        self._junk: Counter[str] = Counter()
        self._links: list[str] = []
        self._loops: list[str] = []
        self._outside: list[str] = []
        self._num_entered = 0

    def listing(self) -> FolderListing:
        pending: list[tuple[str, tuple[_Place, ...]]] = [("", (_place(self._root),))]
        while pending:
            folder, parents = pending.pop()
            for entry in _entries(self._root / folder):
                name = f"{folder}/{entry.name}" if folder else entry.name
                is_folder = _is_folder(entry)
                if kind := (_junk_folder if is_folder else junk_kind)(entry.name):
                    self._junk[kind] += _num_files(entry)
                elif entry.is_symlink() and not self._may_follow(name):
                    continue
                elif not is_folder:
                    self._files.append(name)
                    if entry.is_symlink() and (self._root / name).exists():
                        self._links.append(self._shown(name))
                elif self._enters(entry, name, parents):
                    pending.append((name, (*parents, _place(Path(entry.path)))))
        return FolderListing(
            tuple(sorted(self._files)),
            {kind: number for kind, number in sorted(self._junk.items()) if number},
            tuple(sorted(self._links)),
            tuple(sorted(self._loops)),
            tuple(sorted(self._outside)),
        )

    def _may_follow(self, name: str) -> bool:
        """Note a link that leaves the root; return whether to follow it.

        A link without a target is listed like a file, so that reading it reports the fault.
        """
        target = Path(os.path.realpath(self._root / name))
        if target.is_relative_to(self._real_root) or not target.exists():
            return True
        self._outside.append(self._shown(name))
        return self._follow_outside

    def _shown(self, name: str) -> str:
        """Return `link -> target`; a target within the root is shown relative to it."""
        target = Path(os.path.realpath(self._root / name))
        if target.is_relative_to(self._real_root):
            target = target.relative_to(self._real_root)
        return f"{name} -> {target}"

    def _enters(self, entry: os.DirEntry[str], name: str, parents: tuple[_Place, ...]) -> bool:
        """Return whether to list a subfolder; a followed link and a loop are noted."""
        if not entry.is_symlink():
            return True
        if _place(Path(entry.path)) in parents:
            self._loops.append(self._shown(name))
            return False
        self._links.append(self._shown(name))
        self._num_entered += 1
        if self._num_entered > MAX_LINKS:
            raise ValueError(
                f"{self._root} has more than {MAX_LINKS:,} links to folders, such as {name}; links "
                "between folders multiply: remove them"
            )
        return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be read ({error.strerror}), so its images would be left out; allow "
            "reading it, or move it away"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _place(folder: Path) -> _Place:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _num_files(entry: os.DirEntry[str]) -> int:
    """Count the files of junk; a linked folder, or one that cannot be read, counts as empty."""
    if entry.is_dir(follow_symlinks=False):
        return sum(len(files) for _, _, files in os.walk(entry.path))
    return 0 if _is_folder(entry) else 1
