"""`hf-wbc publish KIND WHAT --to PLACE`: publish to the Hub or a folder, with a card and a tag."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hf_wbc.escape import print_plain

RENAMED_FLAGS = {"--licence": "--license"}
Kind = Literal["dataset", "model", "metric", "space", "study", "leaderboard"]

if TYPE_CHECKING:
    from hf_wbc.hub.publication import Destination, Publication


def publish(
    kind: Annotated[Kind, tyro.conf.Positional],
    what: Annotated[str, tyro.conf.Positional],
    to: str,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    tag: str | None = None,
    card: Literal["refuse", "keep", "replace"] = "refuse",
    license: str | None = None,
    mapping: Path | None = None,
    model: str | None = None,
    collection: str | None = None,
) -> None:
    """Publish a dataset, model, metric, Space, study or leaderboard.

    Example: hf-wbc publish model runs/RUN --to org/wbc-vit --license apache-2.0

    All files are sent in one commit, which is then tagged; a tag never changes. Unchanged files are
    not sent again. If publishing is interrupted, nothing changes; repeat the command to resume.

    Args:
        kind: What to publish.
        what: A prepared folder, a run, a Space's folder or name, a comparison, or a benchmark.
        to: A repository, `org/name`, or a folder that others can read, such as `./name`.
        dry_run: List all files with their size and who could see them; write nothing.
        public: Let anyone see it. By default the license of the images decides.
        private: Let only its owners see it.
        tag: The tag's name. By default the next of v1, v2 and so on.
        card: For a card that was edited there: refuse, keep its text, or replace it.
        license: The license of a model's weights.
        mapping: For a dataset of your own class folders: the mapping it was prepared with.
        model: For a Space: the model to show, org/name[@revision] on the Hub.
        collection: Also add it to the collection of this title, created if missing.
    """
    from hf_wbc.api import build_publication
    from hf_wbc.hub.publication import HubRepo, is_public_requested, parse_destination
    from hf_wbc.hub.publish import preview
    from hf_wbc.hub.publish import publish as publish_files

    is_public = is_public_requested(public, private)
    destination = parse_destination(to, kind)
    if not isinstance(destination, HubRepo):
        _reject_hub_flags(model, collection)
    publication = build_publication(
        kind, what, destination, mapping, license, model,
        public=is_public, tag=tag, on_event=_print_event,
    )  # fmt: skip
    if model is not None:
        from hf_wbc.hub.publish_space import require_model

        require_model(model, publication.public, _print_event)
    if dry_run:
        for line in preview(publication, destination, card=card, on_event=_print_event):
            print_plain(line)
        return
    commit = publish_files(publication, destination, card=card, on_event=_print_event)
    print_plain(f"{destination}: {commit}")
    if isinstance(destination, HubRepo):
        _finish_on_hub(publication, destination, model, collection)


def _reject_hub_flags(model: str | None, collection: str | None) -> None:
    """Raise ValueError for flags that have no effect on a folder."""
    if collection is not None:
        raise ValueError(f"--collection {collection!r} is for the Hub, and --to is a folder")
    if model is not None:
        raise ValueError(
            f"--model {model} configures a Space on the Hub, and --to is a folder; set "
            "HF_WBC_MODEL where you start the Space"
        )


def _finish_on_hub(
    publication: "Publication",
    destination: "Destination",
    model: str | None,
    collection: str | None,
) -> None:
    """Configure the model of a Space, and add the repository to a collection."""
    from hf_wbc.hub.collection import Item, collect_on_hub
    from hf_wbc.hub.publication import HubRepo
    from hf_wbc.hub.publish_space import show_model

    assert isinstance(destination, HubRepo)
    if model is not None:
        show_model(destination, model, _print_event)
    if collection is not None:
        items = [Item(destination, publication.message)]
        private = not publication.public
        slug = collect_on_hub(collection, destination.owner, items, _print_event, private=private)
        print_plain(f"collection: {slug}")


def _print_event(line: str) -> None:
    print_plain(line, file=sys.stderr, flush=True)
