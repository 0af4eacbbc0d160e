"""Small pictures of scored images, where the dataset that a record names is at hand.

A folder is looked for where the record says, from here and from the run folder upwards; a Hub
dataset only in the cache. Nothing is fetched. The images must be those that the run saw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_wbc.data.dataset import Domain, load_domain
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.plots.html import data_uri
from hf_wbc.study.collect import Run

SIDE_PX = 192
"""Shown at half, for screens of two dots a pixel."""


class Thumbnails:
    """Pictures of the images that a run was scored on; it remembers the datasets it has opened."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], Domain | str] = {}

    def of(
        self, run: Run, domain: str, split: str, image_ids: Sequence[str]
    ) -> tuple[dict[str, str], str]:
        """Data URIs by image, and why there are none, or an empty text."""
        facts = _facts(run.record, domain)
        key = (facts["name"], facts[split])
        if key not in self._opened:
            self._opened[key] = _open(run, facts, split)
        opened = self._opened[key]
        if isinstance(opened, str):
            return {}, opened
        rows = {name: row for row, name in enumerate(opened.image_ids)}
        return {name: _thumbnail(opened, rows[name]) for name in image_ids if name in rows}, ""


def _facts(record: Mapping[str, Any], domain: str) -> Mapping[str, Any]:
    """What the record says of a domain's data."""
    for role in ("sources", "target", "held_out"):
        for facts in record[role]:
            if facts["name"] == domain:
                found: Mapping[str, Any] = facts
                return found
    raise AssertionError(f"{domain} is scored, and no domain of its record")


def _open(run: Run, facts: Mapping[str, Any], split: str) -> Domain | str:
    """The domain's split, or why it is not shown."""
    ref, place = str(facts["ref"]), _locate(run, facts)
    if place is None:
        return f"{ref} is not at hand: its images cannot be shown"
    try:
        domain = load_domain(str(place), split)
    except ValueError as error:
        return f"its images cannot be shown: {error}"
    if domain.fingerprint != facts[split]:
        return f"{ref} holds other images than the runs were scored on, which cannot be shown"
    return domain


def _locate(run: Run, facts: Mapping[str, Any]) -> Path | None:
    """The folder that holds the data; None where it is not on this machine."""
    ref = str(facts["ref"])
    if facts["revision"] is not None:
        return _cached(ref, facts["revision"])
    for start in (Path(), *run.path.resolve().parents):
        if (start / ref).is_dir():
            return start / ref
    return None


def _cached(ref: str, revision: str) -> Path | None:
    """A Hub dataset in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            ref.partition("@")[0], repo_type="dataset", revision=revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return None
    return Path(str(found))


def _thumbnail(domain: Domain, row: int) -> str:
    """An image as a small picture without metadata."""
    from PIL import Image

    data = domain.dataset.with_format("arrow")[row]["image"][0].as_py()["bytes"]
    image = Image.fromarray(decode_rgb(data, domain.image_ids[row]))
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return data_uri(image, "WEBP", quality=78, method=6)
