"""A prepared dataset as a publication: what `hf-wbc prepare` wrote, for those who may see it."""

from pathlib import Path
from typing import Any

from hf_wbc.data.dataset import check_schema, shards_of
from hf_wbc.data.schema import CONFIGS, DEFAULT_CONFIG, SPLITS
from hf_wbc.hub.card import place_of
from hf_wbc.hub.dataset_card import PICTURE, class_picture, published_card
from hf_wbc.hub.dataset_rows import check_rows
from hf_wbc.hub.destination import Destination
from hf_wbc.hub.publication import CARD, Publication
from hf_wbc.prepare.source import Source
from hf_wbc.prepare.work_folder import PROVENANCE
from hf_wbc.records import read_json
from hf_wbc.text import some


def dataset_publication(
    folder: Path,
    source: Source,
    destination: Destination | None = None,
    *,
    public: bool | None = None,
    tag: str | None = None,
) -> Publication:
    """The publication of a prepared folder of `source`; `public` None lets the licence decide.

    With a `destination`, the card says how to load it from there, and shows the classes.

    ValueError for a folder that `hf-wbc prepare` did not finish, for files in it that it did not
    write, for rows that may tell of a person, and for `public` where the source is not
    redistributable.
    """
    provenance = read_provenance(folder)
    if provenance.get("domain") != source.name:
        raise ValueError(
            f"{folder} holds {provenance.get('domain')}, not {source.name}; give the source that "
            "it was prepared from"
        )
    if public and not source.redistributable:
        raise ValueError(
            f"nothing says that the images of {source.name} may be passed on (licence "
            f"{source.licence}): they are never published; leave out --public to publish privately"
        )
    files = _files(folder)
    check_rows([file for path, file in files.items() if path.endswith(".parquet")], source)
    num_rows = sum(provenance["num_rows"].values())
    shown = _shown(files, source, destination) if destination else {}
    return Publication(
        kind="dataset",
        files={**files, **shown},
        public=source.redistributable if public is None else public,
        message=f"{source.title}: {num_rows:,} images",
        tag=tag,
        subject=source.name,
    )


def _shown(files: dict[str, Path], source: Source, destination: Destination) -> dict[str, bytes]:
    """The card for `destination`, and its picture."""
    shards = [path for path in files if path.startswith(f"{DEFAULT_CONFIG}/")]
    splits = [Path(path).name.partition("-")[0] for path in shards]
    card = published_card(files[CARD].read_text(encoding="utf-8"), source, place_of(destination))
    picture = class_picture([files[path] for path in shards], splits)
    return {CARD: card.encode(), PICTURE: picture}


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a prepared folder says of itself; ValueError when it is none."""
    return read_json(folder / PROVENANCE, "give a folder that `hf-wbc prepare` wrote")


def _files(folder: Path) -> dict[str, Path]:
    """Card, provenance and all shards; ValueError for a missing one, and for anything else."""
    files = {name: folder / name for name in (CARD, PROVENANCE)}
    for config in CONFIGS:
        for split in SPLITS:
            if any((folder / config).glob(f"{split}-*")):
                shards = shards_of(str(folder), folder / config, split)
                check_schema(str(folder), shards)
                files |= {f"{config}/{shard.name}": shard for shard in shards}
    others = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and path not in files.values()
    ]
    if others:
        raise ValueError(
            f"{folder} holds {some(others)}, which `hf-wbc prepare` did not write; move it away: "
            "all of the folder would be published"
        )
    return files
