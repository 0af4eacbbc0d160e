"""Publish to a folder that others load from: all files or none, under tags that never change.

    FOLDER/          the newest publication; changes in one step
    FOLDER@v1/       the publication tagged v1; appears in one step and never changes
    .FOLDER.lock     held while publishing

Large files are write-protected hard links of one another, if the file system supports them. Small
files, which people edit, are copies. Two folders are swapped in one step, so that a reader always
finds one of them.
"""

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hf_wbc.file_lock import exclusive_lock
from hf_wbc.hub.change import CardPolicy, Change, manifest_of, plan_change
from hf_wbc.hub.client import OnEvent
from hf_wbc.hub.publication import (
    MANIFEST,
    Publication,
    PublishFolder,
    check_tag,
    file_sha256,
    next_tag,
    total_size,
)
from hf_wbc.hub.publisher import DryRun
from hf_wbc.records import digest, remove, remove_abandoned, temporary_sibling

__all__ = ["FolderPublisher", "FolderState", "swap_folders"]

_LINKED_BYTES = 1_000_000
"""Files of this size and more are linked instead of copied."""
_AT_FDCWD = -100
_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@dataclass(frozen=True)
class FolderState:
    """A folder as it is now; `path` may not exist yet. Implements `PublishedState`."""

    path: Path

    @property
    def name(self) -> str:
        """The path, for error messages."""
        return str(self.path)

    @cached_property
    def paths(self) -> Collection[str]:
        """The files, relative to the folder."""
        found = (path for path in self.path.rglob("*") if not path.is_dir())
        return frozenset(path.relative_to(self.path).as_posix() for path in found)

    @property
    def is_untouched(self) -> bool:
        """Whether there are no files."""
        return not self.paths

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether the file has this content; it is read again, as a disk may have damaged it."""
        file = self.path / path
        return file.stat().st_size == total_size(content) and file_sha256(file) == sha256

    def read(self, path: str) -> bytes:
        """The content of a file."""
        return (self.path / path).read_bytes()


class FolderPublisher:
    """Publishes to one folder; implements `Publisher`.

    Attributes:
        folder: The destination.
        card: What to do about a card that was edited there.
        on_event: Receives one line for each wait and result.
    """

    supports_branches = False

    def __init__(self, folder: PublishFolder, card: CardPolicy, on_event: OnEvent) -> None:
        self.folder, self.card, self.on_event = folder, card, on_event

    def check_access(self) -> None:
        """Accept every folder; whether it can be written shows when it is locked."""

    def dry_run(self, publication: Publication) -> DryRun:
        """Work out what `publish` would do, and write nothing."""
        check_tag(publication.tag)
        head = FolderState(self.folder.path)
        _require_own_files(head)
        pinned, tagged = self._choose_tag(publication)
        exists = publication.tag is not None and tagged.exists()
        state = FolderState(tagged) if exists else head
        return DryRun(pinned, plan_change(pinned, state, self.card))

    def reserve(self, publication: Publication) -> None:
        """Do a dry run, and check that the folder can be written."""
        self.dry_run(publication)
        with self._locked():
            pass

    def has_branch(self, branch: str) -> bool:
        """Always False: a folder has no branches."""
        return False

    def publish(self, publication: Publication, *, branch: str | None = None) -> str:
        """Write the folder and its tag; returns the digest of all files.

        See `hf_wbc.hub.publish.publish`.
        """
        if branch is not None:
            raise ValueError(
                f"{self.folder} is a folder and has no branches; publish to the Hub instead"
            )
        head = FolderState(self.folder.path)
        with self._locked():
            _require_own_files(head)
            pinned, tagged = self._choose_tag(publication)
            is_tagged = tagged.exists()
            if publication.tag is None or not is_tagged:
                change = plan_change(pinned, head, self.card)
                if not change.is_empty:
                    self.on_event(f"{self.folder}: {change.summary}")
                    self._replace_head(change)
                if not is_tagged:
                    _write_tag(tagged, change, FolderState(self.folder.path))
            self.on_event(f"{tagged} {'already exists' if is_tagged else 'is complete'}")
        return digest(pinned.digests)

    def _tags(self) -> list[str]:
        """The names of all tags."""
        prefix = f"{self.folder.path.name}@"
        return sorted(
            path.name.removeprefix(prefix)
            for path in self.folder.path.parent.glob("*")
            if path.name.startswith(prefix) and path.is_dir()
        )

    def _choose_tag(self, publication: Publication) -> tuple[Publication, Path]:
        """The publication under its tag, and that tag's folder.

        The tag is the requested one, one that has the same content, or the next. ValueError if the
        requested one has other content.
        """
        tags, tag = self._tags(), publication.tag
        if tag in tags and not self._is_same(publication, tag, self.folder.tagged(tag)):
            raise ValueError(
                f"{self.folder.tagged(tag)} exists with other content, and a tag must not change; "
                f"choose another --tag, such as {next_tag(tags)}"
            )
        if tag is None:
            same = [
                each for each in tags if self._is_same(publication, each, self.folder.tagged(each))
            ]
            newest = [each for each in same if self._is_same(publication, each, self.folder.path)]
            tag = [*same, *newest][-1] if same else next_tag(tags)
        return publication.pinned(tag), self.folder.tagged(tag)

    def _is_same(self, publication: Publication, tag: str, path: Path) -> bool:
        """Whether the folder `path` contains this publication under that tag."""
        pinned, state = publication.pinned(tag), FolderState(path)
        try:
            before = manifest_of(state)
            if before is None or before.files != pinned.digests:
                return False  # without reading all files
            return plan_change(pinned, state, self.card).is_empty
        except ValueError:  # its card was edited, or its manifest is damaged
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock: a second publisher waits, then sees what the first one has done.

        ValueError if the folder cannot be written.
        """
        path = self.folder.path
        new = [parent for parent in path.parents if not parent.exists()]
        waiting = f"someone else is publishing to {path}; waiting"
        lock = ExitStack()
        try:
            held = exclusive_lock(
                path.with_name(f".{path.name}.lock"),
                waiting,
                on_wait=lambda: self.on_event(waiting),
            )
            lock.enter_context(held)
        except OSError as error:
            raise ValueError(
                f"{path.parent} cannot be written: {error.strerror}; choose another --to"
            ) from error
        try:
            _recover(path)
            for leftover in path.parent.glob(f".{glob.escape(path.name)}@*.partial"):
                remove(leftover)  # of a tag that was never completed
            yield
        except ValueError:
            lock.close()
            _remove_new_parents(path, new)
            raise
        finally:
            lock.close()

    def _replace_head(self, change: Change) -> None:
        """Build the next head beside the current one, then swap them."""
        path = self.folder.path
        with _building(path, change, FolderState(path), frozenset(change.written)) as built:
            if not path.exists():
                built.rename(path)
            elif not swap_folders(built, path):
                self.on_event(
                    f"{path} disappears for a moment: its file system cannot swap folders in one "
                    "step"
                )
                old = temporary_sibling(path, "old")
                path.rename(old)
                built.rename(path)
                _sync(path.parent)
                remove(old)
        _sync(path.parent)


def swap_folders(a: Path, b: Path) -> bool:
    """Swap two paths of one file system in one step; False where the system does not support it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(a), os.fsencode(b)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(a))


def _require_own_files(head: FolderState) -> None:
    """ValueError for a file, and for a folder with files that were not published."""
    if head.path.exists() and not head.path.is_dir():
        raise ValueError(f"{head.path} is a file; choose another --to")
    if head.paths and MANIFEST not in head.paths:
        raise ValueError(
            f"{head.path} contains files that `hf-wbc publish` did not write; choose another --to"
        )


def _remove_new_parents(path: Path, new: Collection[Path]) -> None:
    """After a user error, remove the empty folders that were created for `path`."""
    if new and not path.exists():
        for parent in new:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _recover(path: Path) -> None:
    """Restore what a process set aside that was killed between two renames."""
    pattern = f".{glob.escape(path.name)}.*.old"
    if not path.exists() and (old := next(path.parent.glob(pattern), None)):
        old.rename(path)
    remove_abandoned(path)


def _write_tag(tagged: Path, change: Change, head: FolderState) -> None:
    """Build the tag from the head under a temporary name, then rename it."""
    with _building(tagged, change, head, frozenset()) as built:
        built.rename(tagged)
    _sync(tagged.parent)


@contextmanager
def _building(
    path: Path, change: Change, head: FolderState, changed: Collection[str]
) -> Iterator[Path]:
    """A complete sibling of `path`, flushed to disk; removed unless the caller renames it.

    Large files that are not `changed` can become links of those in the head.
    """
    built = temporary_sibling(path)
    try:
        for name, content in change.files.items():
            can_link = total_size(content) >= _LINKED_BYTES and name not in changed
            _write_file(content, head.path / name if can_link else None, built / name)
        for name in change.foreign:
            _write_file(head.path / name, None, built / name)
        for parent, _, _ in os.walk(built):
            _sync(Path(parent))
        yield built
    finally:
        remove(built)


def _write_file(content: Path | bytes, existing: Path | None, target: Path) -> None:
    """Link the existing file if that is possible, otherwise copy the content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if existing is not None and not existing.stat().st_mode & 0o222:
        with suppress(OSError):
            os.link(existing, target)
            return
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    if total_size(target) >= _LINKED_BYTES:
        target.chmod(0o444)  # other versions may link to it


def _sync(folder: Path) -> None:
    """Flush the names in a folder to disk; some network file systems do not support it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(opened)
    finally:
        os.close(opened)
