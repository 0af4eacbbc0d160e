"""Published repositories are added to a collection on the Hub."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_wbc.cli.main import main
from hf_wbc.hub.collection import DESCRIPTION, MAX_DESCRIPTION, Item, collect_on_hub
from hf_wbc.hub.publication import HubRepo


def test_published_repo_is_added_to_collection(
    hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "metric", "wbc_macro_f1", "--to", "lab/wbc_macro_f1"]
    assert main([*words, "--collection", "Blood"]) == 0
    slug = capsys.readouterr().out.splitlines()[-1].removeprefix("collection: ")
    (item,) = HfApi().get_collection(slug).items
    assert (item.item_id, item.item_type) == ("lab/wbc_macro_f1", "space")
    there = ["--to", str(tmp_path / "wbc_macro_f1"), "--collection", "Blood"]
    assert main([*words[:3], *there]) == 1
    assert "is for the Hub, and --to is a folder" in capsys.readouterr().err


def test_collection_is_created_once_and_extended(hub: Any) -> None:
    api = HfApi()
    items = [Item(HubRepo("lab/cells", "dataset"), "images"), Item(HubRepo("lab/wbc", "model"))]
    for item in items:
        api.create_repo(item.repo.repo_id, repo_type=item.repo.repo_type, private=True)
    first = collect_on_hub("White blood cells", "lab", items[:1], print)
    assert collect_on_hub("White blood cells", "lab", items, print) == first
    found = api.get_collection(first)
    assert [(each.item_id, each.item_type) for each in found.items] == [
        ("lab/cells", "dataset"),
        ("lab/wbc", "model"),
    ]
    assert found.private and found.description == DESCRIPTION
    assert len(DESCRIPTION) <= MAX_DESCRIPTION
