"""A card names the tag under which it is published, even during concurrent publication."""

import threading
from pathlib import Path
from typing import Any

import pytest
from support.hub_publications import CARD, CELLS, small
from support.hub_server import LoopbackHub

from hf_wbc.hub.publication import TAG, Destination, Publication, PublishFolder
from hf_wbc.hub.publish import preview, publish

PINNED = CARD + f"load it as {TAG}\n".encode()


def cells(tag: str | None = None, **files: bytes) -> Publication:
    named = {name.replace("_", "."): content for name, content in files.items()}
    return Publication("dataset", {"README.md": PINNED, **named}, False, "Publish", tag)


@pytest.fixture(params=["the Hub", "a folder"])
def to(request: pytest.FixtureRequest, hub: LoopbackHub, tmp_path: Path) -> Destination:
    return CELLS if request.param == "the Hub" else PublishFolder(tmp_path / "share/cells")


def said(to: Destination, hub: LoopbackHub, tag: str | None = None) -> str:
    """Return the tag that the card of a tag, or the newest card, states."""
    if isinstance(to, PublishFolder):
        text = ((to.tagged(tag) if tag else to.path) / "README.md").read_text()
    else:
        text = hub.repo("dataset", to.repo_id).content(tag or "main", "README.md").decode()
    return text.splitlines()[-1].removeprefix("load it as ")


def test_every_tag_names_itself_and_repetition_creates_none(
    hub: LoopbackHub, to: Destination
) -> None:
    first = publish(cells(a_txt=b"1"), to)
    assert publish(cells(a_txt=b"1"), to) == first
    publish(cells(a_txt=b"2"), to)
    publish(cells("final", a_txt=b"2"), to)
    publish(cells(a_txt=b"2"), to)
    assert [said(to, hub, tag) for tag in ("v1", "v2", "final", None)] == [
        "v1", "v2", "final", "final",
    ]  # fmt: skip


def test_dry_run_names_the_next_tag(hub: LoopbackHub, to: Destination) -> None:
    def headline(publication: Publication) -> str:
        return next(iter(preview(publication, to, card="refuse", on_event=print)))

    assert ", v1: " in headline(cells())
    publish(cells(), to)
    assert ", v1: " in headline(cells())
    assert ", v2: " in headline(cells(a_txt=b"1"))


def test_publisher_losing_a_tag_takes_the_next_one(
    hub: LoopbackHub,
) -> None:
    gate = hub.faults.hold("POST", "/tag/")
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(publish(cells(), CELLS)))
    thread.start()
    assert gate.reached.wait(60)
    repo = hub.repo("dataset", "lab/cells")
    first = [*repo.history("main")][-1]["id"]
    repo.set_ref("tags", "v1", first)
    gate.open()
    thread.join(60)
    assert repo.refs("tags") == {"v1": first, "v2": done[0]}
    assert said(CELLS, hub, "v2") == said(CELLS, hub) == "v2"


def test_concurrent_publications_each_name_their_own_tag(hub: LoopbackHub, to: Destination) -> None:
    publish(cells(a_txt=b"0"), to)
    versions = [cells(a_txt=str(number).encode()) for number in (1, 2, 3)]
    threads = [threading.Thread(target=publish, args=(version, to)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    tags = ["v1", "v2", "v3", "v4"]
    assert [said(to, hub, tag) for tag in tags] == tags
    assert said(to, hub) in tags


def test_untagged_commit_is_tagged_on_repetition(hub: LoopbackHub, quick: list[float]) -> None:
    hub.faults.answer("POST", "/tag/", 500, times=99)
    with pytest.raises(OSError, match="repeat the command"):
        publish(cells(), CELLS)
    hub.faults.clear()
    publish(cells(), CELLS)
    repo = hub.repo("dataset", "lab/cells")
    assert list(repo.refs("tags")) == ["v1"] and said(CELLS, hub, "v1") == "v1"
    assert len([*repo.history("main")]) == 2


def test_conflicting_gitignore_is_reported_before_sending(
    hub: LoopbackHub, quick: list[float]
) -> None:
    publish(small(a_txt=b"1"), CELLS)
    repo = hub.repo("dataset", "lab/cells")
    ignore = repo.add_blob(".gitignore", b"# ours\n*.txt\n*.parquet\n")
    head = repo.commit("main", {".gitignore": ignore}, "By hand", "carol")
    hub.log.clear()
    newer: dict[str, Any] = {"a_txt": b"2", "b_parquet": b"1" * 100}
    words = r"the \.gitignore of lab/cells excludes a\.txt, b\.parquet; delete it there"
    with pytest.raises(ValueError, match=words):
        publish(small(**newer), CELLS)
    with pytest.raises(ValueError, match=words):
        list(preview(small(**newer), CELLS, card="refuse", on_event=print))
    assert not hub.sent("PUT") and not hub.sent("POST", "/commit/")
    assert repo.refs("heads") == {"main": head} and list(repo.refs("tags")) == ["v1"]
    publish(small(a_txt=b"1", c_md=b"3"), CELLS)  # nothing that is sent is ignored
    assert repo.content("v2", "c.md") == b"3"
