"""To a folder that others load from: whole or not at all, and tags that never change.

FOLDER/           what was published last; changes in one step
FOLDER@v1/        what was published as v1; appears in one step, and stays
.FOLDER.lock      held by who publishes

Large files are hard links of one another where the disk knows them, and cannot be written to; small
ones, which people edit, are copies.

Two folders change places in one step, so that no reader ever finds neither."""

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hf_wbc.hub.change import Card, Change, manifest_of, plan_change
from hf_wbc.hub.client import Report
from hf_wbc.hub.publication import MANIFEST, Publication, PublishFolder, file_sha256, total_size
from hf_wbc.hub.repository import next_tag
from hf_wbc.records import digest, remove, remove_abandoned, temporary_sibling

_AT_FDCWD = -100
_EXCHANGE = 2
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def swap_folders(a: Path, b: Path) -> bool:
    """Swap two paths of one file system; False where the system cannot do it in one step."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(a), os.fsencode(b)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(a))


_LINKED_BYTES = 1_000_000
"""From this size on, a file is linked instead of copied."""


@dataclass(frozen=True)
class FolderState:
    """A folder as it is now; `where` may not be there yet."""

    where: Path

    @property
    def name(self) -> str:
        return str(self.where)

    @cached_property
    def paths(self) -> Collection[str]:
        found = (path for path in self.where.rglob("*") if not path.is_dir())
        return frozenset(path.relative_to(self.where).as_posix() for path in found)

    @property
    def is_untouched(self) -> bool:
        return not self.paths

    def holds(self, path: str, content: Path | bytes, sha256: str) -> bool:
        """Whether the file has this content; it is read, for a disk may have spoiled it."""
        there = self.where / path
        return there.stat().st_size == total_size(content) and file_sha256(there) == sha256

    def read(self, path: str) -> bytes:
        return (self.where / path).read_bytes()


def publish_to_folder(
    publication: Publication, folder: PublishFolder, card: Card, report: Report
) -> str:
    """The digest of all files; see `hf_wbc.hub.publish.publish`."""
    head = FolderState(folder.path)
    with locked(folder.path, report):
        require_own_files(head)
        made, place = choose_revision(publication, folder, card)
        is_tagged = place.exists()
        if publication.tag is None or not is_tagged:
            change = plan_change(made, head, card)
            if not change.is_empty:
                report(f"{folder}: {change.words}")
                _replace(folder.path, change, report)
            if not is_tagged:
                _appear(place, change, FolderState(folder.path))
        report(f"{place} is there{' already' if is_tagged else ''}")
    return digest(made.digests)


def tags_of(folder: PublishFolder) -> list[str]:
    """The names of all tags."""
    prefix = f"{folder.path.name}@"
    return sorted(
        path.name.removeprefix(prefix)
        for path in folder.path.parent.glob("*")
        if path.name.startswith(prefix) and path.is_dir()
    )


@contextmanager
def locked(path: Path, report: Report) -> Iterator[None]:
    """One publication at a time; a second one waits, and then looks at what the first has done.

    ValueError where nothing can be written.
    """
    from filelock import FileLock, Timeout

    new = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(f"somebody else is publishing to {path}; waiting")
            lock.acquire()
    except OSError as error:
        raise ValueError(
            f"{path.parent} cannot be written: {error.strerror}; choose another --to"
        ) from error
    try:
        _recover(path)
        for left in path.parent.glob(f".{glob.escape(path.name)}@*.partial"):
            remove(left)  # of a tag that never was
        yield
    except ValueError:
        _leave_nothing(path, new)
        raise
    finally:
        lock.release()


def _leave_nothing(path: Path, new: Collection[Path]) -> None:
    """After a mistake of the user's, the folders that were made for nothing go."""
    if new and not path.exists():
        remove(path.with_name(f".{path.name}.lock"))
        for parent in new:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def require_own_files(head: FolderState) -> None:
    """ValueError for a file, and for a folder with files that were not published."""
    if head.where.exists() and not head.where.is_dir():
        raise ValueError(f"{head.where} is a file; choose another --to")
    if head.paths and MANIFEST not in head.paths:
        raise ValueError(
            f"{head.where} holds files that `hf-wbc publish` did not put there; choose another --to"
        )


def choose_revision(
    publication: Publication, folder: PublishFolder, card: Card
) -> tuple[Publication, Path]:
    """What is published under the tag that was asked for, the one that holds this, or the next;
    and that tag's folder. ValueError when the one that was asked for holds something else."""
    tags = tags_of(folder)
    tag = publication.tag
    if tag in tags and not _is_same(publication, tag, folder.tagged(tag), card):
        raise ValueError(
            f"{folder.tagged(tag)} exists with other content, and what others load must not "
            f"change under them; choose another --tag, such as {next_tag(tags)}"
        )
    if tag is None:
        same = [each for each in tags if _is_same(publication, each, folder.tagged(each), card)]
        newest = [each for each in same if _is_same(publication, each, folder.path, card)]
        tag = [*same, *newest][-1] if same else next_tag(tags)
    return publication.pinned(tag), folder.tagged(tag)


def _is_same(publication: Publication, tag: str, place: Path, card: Card) -> bool:
    """Whether this, under that tag, is what lies there."""
    publication, shelf = publication.pinned(tag), FolderState(place)
    try:
        before = manifest_of(shelf)
        if before is None or before.files != publication.digests:
            return False  # without reading all of its files
        return plan_change(publication, shelf, card).is_empty
    except ValueError:  # its card was edited, or its manifest is damaged
        return False


def _appear(place: Path, change: Change, head: FolderState) -> None:
    """Build the tag of the head aside, then give it its name."""
    with _building(place, change, head, frozenset()) as built:
        built.rename(place)
    _sync(place.parent)


def _replace(place: Path, change: Change, report: Report) -> None:
    """Build the next head aside, then let it take the place of the one that is there."""
    with _building(place, change, FolderState(place), frozenset(change.written)) as built:
        if not place.exists():
            built.rename(place)
        elif not swap_folders(built, place):
            report(f"{place} is away for a moment: its disk cannot swap folders in one step")
            place.rename(temporary_sibling(place, "old"))
            built.rename(place)
    _sync(place.parent)
    remove(temporary_sibling(place, "old"))


def _recover(place: Path) -> None:
    """Put back what a process that was killed between two renames had put aside."""
    pattern = f".{glob.escape(place.name)}.*.old"
    if not place.exists() and (old := next(place.parent.glob(pattern), None)):
        old.rename(place)
    remove_abandoned(place)


@contextmanager
def _building(
    place: Path, change: Change, head: FolderState, other: Collection[str]
) -> Iterator[Path]:
    """A sibling of `place` with everything in it, on disk; gone unless it is renamed.

    `other` files are not as in the head; the rest of the large ones can be links of those there.
    """
    built = temporary_sibling(place)
    try:
        for path, content in change.files.items():
            is_at_hand = total_size(content) >= _LINKED_BYTES and path not in other
            _put(content, head.where / path if is_at_hand else None, _made(built / path))
        for path in change.foreign:
            _put(head.where / path, None, _made(built / path))
        for parent, _, _ in os.walk(built):
            _sync(Path(parent))
        yield built
    finally:
        remove(built)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _put(content: Path | bytes, at_hand: Path | None, to: Path) -> None:
    """A link of what is at hand, where the disk knows links, or a copy of the content."""
    if at_hand is not None and not at_hand.stat().st_mode & 0o222:
        with suppress(OSError):
            os.link(at_hand, to)
            return
    if isinstance(content, bytes):
        to.write_bytes(content)
    else:
        shutil.copyfile(content, to)
    with to.open("rb") as file:
        os.fsync(file.fileno())
    if total_size(to) >= _LINKED_BYTES:
        to.chmod(0o444)  # other versions may become links of it


def _sync(folder: Path) -> None:
    """Let the names in a folder reach the disk; some network disks know nothing of it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(opened)
    finally:
        os.close(opened)
