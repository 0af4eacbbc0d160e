"""Push a run while it trains: its newest checkpoint to a branch, its model at the end.

Uploads run beside training. While one is in progress, newer checkpoints are skipped, and the next
one after it is pushed. A failed checkpoint upload is reported and training continues, as the run
folder still has the checkpoint; a failed upload of the final model is an error.
"""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.change import CardPolicy
from hf_wbc.hub.client import OnEvent
from hf_wbc.hub.publication import CARD, Destination, HubRepo, Publication
from hf_wbc.hub.publish import open_publisher, publish
from hf_wbc.hub.publish_model import EXPECTED, may_show_thumbnails, model_publication
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import RunFolder, atomic_replace, remove

__all__ = ["TrainingPush", "branch_of"]

CHECKPOINT = "checkpoint"
HISTORY = "history.jsonl"
_COPY = ".pushed"
"""In the run folder; hidden, so that a restart deletes it."""


class TrainingPush:
    """Implements the engine's keeper interface for one destination."""

    def __init__(
        self,
        destination: Destination,
        sources: Mapping[str, ArchiveSpec],
        on_event: OnEvent,
        *,
        public: bool | None = None,
        license: str | None = None,
        tag: str | None = None,
        card: CardPolicy = "refuse",
    ) -> None:
        """Check access to the destination, before any data is loaded.

        Args:
            destination: The repository or folder that receives the model.
            sources: The known sources by domain.
            on_event: Receives one line for each upload, wait and result.
            public: As in `model_publication`.
            license: As in `model_publication`.
            tag: As in `model_publication`.
            card: As in `hf_wbc.hub.publish.publish`.

        Raises:
            ValueError: This account cannot publish there.
        """
        self.destination, self.sources, self.on_event = destination, sources, on_event
        self.public, self.license, self.tag, self.card = public, license, tag, card
        self._publisher = open_publisher(destination, card=card, on_event=on_event)
        self._publisher.check_access()
        self._upload: threading.Thread | None = None

    def begin(self, domains: Sequence[str]) -> None:
        """Raise ValueError before training for everything that would fail at the end.

        Creates the repository if there is none, as only that proves that the token may.
        """
        if self.public is None:
            self.public = may_show_thumbnails(domains, self.sources)
        front = f"---\nlicense: {self.license}\n---\n" if self.license else ""
        files = {**dict.fromkeys(EXPECTED, b""), CARD: front.encode()}
        self._publisher.reserve(Publication("model", files, self.public, "", self.tag))

    def fetch(self, folder: RunFolder) -> None:
        """Download the checkpoint that another machine pushed, if this one has none."""
        branch = branch_of(folder)
        if _has_checkpoint(folder) or not self._publisher.has_branch(branch):
            return
        assert isinstance(self.destination, HubRepo)
        found = fetch_snapshot(
            self.destination.repo_id, "model", branch, [f"{CHECKPOINT}/*", HISTORY]
        )
        shutil.copyfile(found / HISTORY, folder.history)
        with atomic_replace(folder.checkpoint) as temporary:
            shutil.copytree(found / CHECKPOINT, temporary)
        steps = ", ".join(path.name for path in sorted(folder.checkpoint.iterdir()))
        self.on_event(f"resuming from step {int(steps)} of {self.destination}, branch {branch}")

    def keep(self, folder: RunFolder) -> None:
        """Push the newest checkpoint, unless another upload is in progress."""
        if not self._publisher.supports_branches or (self._upload and self._upload.is_alive()):
            return
        copy = folder.path / _COPY
        remove(copy)
        _link_tree(folder.checkpoint, copy / CHECKPOINT)
        shutil.copyfile(folder.history, copy / HISTORY)
        self._upload = threading.Thread(target=self._push, args=(folder, copy), daemon=True)
        self._upload.start()

    def finish(self, folder: RunFolder) -> str:
        """Publish the finished run's model; returns the commit id. May be called again on error."""
        if self._upload:
            self._upload.join()
        remove(folder.path / _COPY)
        publication = model_publication(
            folder.path,
            self.destination,
            self.sources,
            public=self.public,
            license=self.license,
            tag=self.tag,
        )
        return publish(publication, self.destination, card=self.card, on_event=self.on_event)

    def _push(self, folder: RunFolder, copy: Path) -> None:
        """Push the copy of a checkpoint; runs in its own thread."""
        (step,) = (path.name for path in (copy / CHECKPOINT).iterdir())
        files: dict[str, Path | bytes] = {
            path.relative_to(copy).as_posix(): path for path in copy.rglob("*") if path.is_file()
        }
        files[CARD] = _checkpoint_card(folder, int(step)).encode()
        assert self.public is not None
        publication = Publication("model", files, self.public, f"Step {int(step)}")
        try:
            publish(
                publication,
                self.destination,
                branch=branch_of(folder),
                card="replace",
                on_event=self.on_event,
            )
        except (ValueError, OSError) as error:
            self.on_event(f"step {int(step)} was not pushed: {error}; training continues")


def branch_of(folder: RunFolder) -> str:
    """The branch of a run's checkpoints: `training-` and the run's name."""
    return f"training-{folder.path.name}"


def _checkpoint_card(folder: RunFolder, step: int) -> str:
    return (
        f"# Run {folder.path.name}, step {step:,}\n\nA checkpoint of an unfinished training run, "
        "not a model to use. The same `hf-wbc train ... --push-to` resumes from here on any "
        "machine that has the same data.\n"
    )


def _has_checkpoint(folder: RunFolder) -> bool:
    return folder.checkpoint.is_dir() and any(
        path.name.isdecimal() for path in folder.checkpoint.iterdir()
    )


def _link_tree(source: Path, target: Path) -> None:
    """Hard links to the files, which remain when training deletes the originals."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:  # a file system without hard links
            shutil.copyfile(one, other)

    shutil.copytree(source, target, copy_function=link)
