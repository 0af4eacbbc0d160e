"""`hf-wbc publish KIND WHAT --to PLACE`: on the Hub or in a folder, whole, with card and tag."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import tyro

if TYPE_CHECKING:
    from hf_wbc.hub.publication import Destination, Kind, Publication


class Options(TypedDict):
    """What every kind takes."""

    public: bool | None
    tag: str | None


def publish(
    kind: Annotated[Literal["dataset", "model", "metric", "space", "study"], tyro.conf.Positional],
    what: Annotated[str, tyro.conf.Positional],
    to: str,
    tag: str | None = None,
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    card: Literal["refuse", "keep", "replace"] = "refuse",
    mapping: Path | None = None,
    licence: str | None = None,
    model: str | None = None,
    collection: str | None = None,
) -> None:
    """Publish a dataset, a model, the metric, a Space or a study, so that others just load it.

    Everything arrives in one commit and is then tagged; the tag never changes, and is what others
    should load. Files that are there are not sent again. An interrupted publication leaves what was
    there; the same command goes on.

    Args:
        kind: What it is.
        what: A prepared folder, a run, a Space's folder or name, or a comparison's folder.
        to: A repository, `org/name`, or a folder that others read, such as `./name`.
        tag: The tag's name; the next of v1, v2 and so on when not given.
        public: Let anybody see it. Otherwise the licence of the images decides.
        private: Let nobody see it but its owners.
        dry_run: List every file with its size and who will see it; nothing is written.
        card: What to do about a card that was edited where it is published: refuse and show the
            difference, keep its text, or replace it.
        mapping: The mapping that your class folders were prepared with, for their dataset.
        licence: A model's licence.
        model: The model that a Space shows, org/name[@revision] on the Hub.
        collection: The title of a collection on the Hub that is to hold it too; it is made where
            the owner has none of that title.
    """
    from hf_wbc.hub.dry_run import preview
    from hf_wbc.hub.publication import HubRepo, is_public_requested, parse_destination
    from hf_wbc.hub.publish import publish as send

    seen = is_public_requested(public, private)
    destination = parse_destination(to, kind)
    if collection is not None and not isinstance(destination, HubRepo):
        raise ValueError(f"--collection {collection!r} is for the Hub, and --to is a folder")
    if model is not None and not isinstance(destination, HubRepo):
        raise ValueError(
            f"--model {model} is told to a Space on the Hub, and --to is a folder; set "
            "HF_WBC_MODEL where you start it"
        )
    publication = _publication(
        kind,
        what,
        destination,
        mapping,
        licence,
        model,
        {"public": seen, "tag": tag},
    )
    if model is not None:
        from hf_wbc.hub.publish_space import require_model

        require_model(model, publication.public, _say)
    if dry_run:
        for line in preview(publication, destination, card=card, report=_say):
            print(line)
        return
    print(f"{destination}: {send(publication, destination, card=card, report=_say)}")
    if model is not None:
        from hf_wbc.hub.publish_space import show_model

        show_model(destination, model, _say)
    if collection is not None and isinstance(destination, HubRepo):
        from hf_wbc.hub.collection import Item, collect_on_hub

        items = [Item(destination, publication.message)]
        private = not publication.public
        slug = collect_on_hub(collection, destination.owner, items, _say, private=private)
        print(f"collection: {slug}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _publication(
    kind: "Kind",
    what: str,
    destination: "Destination",
    mapping: Path | None,
    licence: str | None,
    model: str | None,
    options: Options,
) -> "Publication":
    """Built by the function of its kind."""
    import dataset_scripts

    if mapping is not None and kind != "dataset":
        raise ValueError(f"--mapping {mapping} is for datasets; leave it out")
    if licence is not None and kind != "model":
        raise ValueError(f"--licence {licence} is for models; leave it out")
    if model is not None and kind != "space":
        raise ValueError(f"--model {model} is for Spaces; leave it out")
    if kind == "dataset":
        from hf_wbc.hub.publish_dataset import dataset_publication, read_provenance

        domain = read_provenance(Path(what)).get("domain", "")
        if mapping is not None:
            source = dataset_scripts.load("class_folders", mapping=mapping)
        elif domain in (known := dataset_scripts.known()):
            source = known[domain]
        else:
            raise ValueError(f"{what} holds {domain}, your own source; give its --mapping FILE")
        return dataset_publication(Path(what), source, destination, **options)
    if kind == "model":
        from hf_wbc.hub.publish_model import model_publication

        return model_publication(
            Path(what), destination, dataset_scripts.known(), licence=licence, **options
        )
    if kind == "study":
        from hf_wbc.hub.publish_comparison import comparison_publication

        return comparison_publication(Path(what), destination, dataset_scripts.known(), **options)
    if kind == "metric":
        from hf_wbc.hub.publish_space import metric_publication

        return metric_publication(what, destination, **options)
    from hf_wbc.hub.publish_space import space_publication

    return space_publication(what, destination, model=model, **options)
