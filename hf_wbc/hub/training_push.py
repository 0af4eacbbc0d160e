"""A run that is pushed while it trains: its newest checkpoint on a branch, its model at the end.

An upload takes its time and training does not wait for it: while one is on its way, newer
checkpoints are passed over, and the one after is pushed. A checkpoint that could not be pushed is
told and not fatal, as the run folder has it; the model at the end is.
"""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.change import Card
from hf_wbc.hub.dry_run import dry_run
from hf_wbc.hub.publication import CARD, Destination, HubRepo, Publication, PublishFolder
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_model import EXPECTED, may_show_thumbnails, model_publication
from hf_wbc.hub.repository import inspect_repository, require_account, require_repo_type
from hf_wbc.hub.to_folder import locked
from hf_wbc.hub.to_hub import connect, create
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import RunFolder, atomic_replace, remove

Report = Callable[[str], None]
CHECKPOINT = "checkpoint"
HISTORY = "history.jsonl"
_COPY = ".pushed"
"""In the run folder; hidden, so that a restart clears it away."""


class TrainingPush:
    """What `engine.run` calls its keeper, for one destination."""

    def __init__(
        self,
        destination: Destination,
        sources: Mapping[str, ArchiveSpec],
        report: Report,
        *,
        public: bool | None = None,
        licence: str | None = None,
        tag: str | None = None,
        card: Card = "refuse",
    ) -> None:
        """`sources` and the options are those of `model_publication` and `publish`.

        ValueError when this account cannot write there: before any data is loaded.
        """
        self.destination, self.sources, self.report = destination, sources, report
        self.public, self.licence, self.tag, self.card = public, licence, tag, card
        self._upload: threading.Thread | None = None
        if isinstance(destination, HubRepo):
            api = connect(report)
            require_account(api, destination, report)
            require_repo_type(api, destination, report)

    def begin(self, domains: Sequence[str]) -> None:
        """ValueError for all that would be refused at the end and can be known before training.

        A repository that is not there is made: nothing else shows that this token may.
        """
        if self.public is None:
            self.public = may_show_thumbnails(domains, self.sources)
        front = f"---\nlicense: {self.licence}\n---\n" if self.licence else ""
        files = {**dict.fromkeys(EXPECTED, b""), CARD: front.encode()}
        expected = Publication("model", files, self.public, "", self.tag)
        outlook = dry_run(expected, self.destination, card=self.card, report=self.report)
        if isinstance(self.destination, PublishFolder):
            with locked(self.destination.path, self.report):
                pass  # it can be written
        elif outlook.change is None:
            create(connect(self.report), expected, self.destination, self.report)

    def fetch(self, folder: RunFolder) -> None:
        """The checkpoint that an earlier machine left on the branch, if this one has none."""
        if not isinstance(self.destination, HubRepo) or _has_checkpoint(folder):
            return
        branch = branch_of(folder)
        if inspect_repository(connect(self.report), self.destination, branch, self.report) is None:
            return
        found = fetch_snapshot(
            self.destination.repo_id, "model", branch, [f"{CHECKPOINT}/*", HISTORY]
        )
        shutil.copyfile(found / HISTORY, folder.history)
        with atomic_replace(folder.checkpoint) as temporary:
            shutil.copytree(found / CHECKPOINT, temporary)
        steps = ", ".join(path.name for path in sorted(folder.checkpoint.iterdir()))
        self.report(f"going on from step {int(steps)} of {self.destination}, branch {branch}")

    def keep(self, folder: RunFolder) -> None:
        """Push the checkpoint, unless an earlier one is still on its way."""
        if not isinstance(self.destination, HubRepo) or (self._upload and self._upload.is_alive()):
            return
        copy = folder.path / _COPY
        remove(copy)
        _link_tree(folder.checkpoint, copy / CHECKPOINT)
        shutil.copyfile(folder.history, copy / HISTORY)
        self._upload = threading.Thread(target=self._push, args=(folder, copy), daemon=True)
        self._upload.start()

    def finish(self, folder: RunFolder) -> str:
        """Publish the finished run's model; the commit. Call it again after an error."""
        if self._upload:
            self._upload.join()
        remove(folder.path / _COPY)
        publication = model_publication(
            folder.path,
            self.destination,
            self.sources,
            public=self.public,
            licence=self.licence,
            tag=self.tag,
        )
        return publish(publication, self.destination, card=self.card, report=self.report)

    def _push(self, folder: RunFolder, copy: Path) -> None:
        """In a thread of its own."""
        (step,) = (path.name for path in (copy / CHECKPOINT).iterdir())
        files: dict[str, Path | bytes] = {
            path.relative_to(copy).as_posix(): path for path in copy.rglob("*") if path.is_file()
        }
        files[CARD] = _card(folder, int(step)).encode()
        assert self.public is not None
        publication = Publication("model", files, self.public, f"Step {int(step)}")
        try:
            publish(
                publication,
                self.destination,
                branch=branch_of(folder),
                card="replace",
                report=self.report,
            )
        except (ValueError, OSError) as error:
            self.report(f"step {int(step)} was not pushed: {error}; training goes on")


def branch_of(folder: RunFolder) -> str:
    """Where a run's checkpoints lie: `training-` and its name."""
    return f"training-{folder.path.name}"


def _card(folder: RunFolder, step: int) -> str:
    return (
        f"# Run {folder.path.name}, step {step:,}\n\nA checkpoint of a training that is not "
        "finished: no model to use. The same `hf-wbc train ... --push-to` goes on from here on any "
        "machine that has the same data.\n"
    )


def _has_checkpoint(folder: RunFolder) -> bool:
    return folder.checkpoint.is_dir() and any(
        path.name.isdecimal() for path in folder.checkpoint.iterdir()
    )


def _link_tree(source: Path, target: Path) -> None:
    """The files under a second name, which stays when training deletes the first."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:  # a disk without hard links
            shutil.copyfile(one, other)

    shutil.copytree(source, target, copy_function=link)
