"""Missing permissions and taken names: a one-line error that states the remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hub_publications import CARD, CELLS, small
from support.hub_server import LoopbackHub

from hf_wbc.hub.publication import Publication, PublishFolder
from hf_wbc.hub.publish import publish


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (None, "there is no token for http.*hf auth login.*HF_TOKEN"),
        ("nobody", "http.* rejects the token.*hf auth login"),
        ("reader", "the token of alice is read-only; create one with write access"),
        ("bob", "would belong to lab, and bob is not a member there; choose from bob"),
    ],
)
def test_token_without_write_access_is_refused(
    hub: LoopbackHub, log_in: Callable[[str | None], None], who: str | None, words: str
) -> None:
    log_in(who)
    with pytest.raises(ValueError, match=words) as caught:
        publish(small(), CELLS)
    assert "\n" not in str(caught.value)
    assert not (hub.store.root / "datasets").exists()


def test_fine_grained_token_writes_to_existing_repo_but_cannot_create(
    hub: LoopbackHub, log_in: Callable[[str | None], None]
) -> None:
    log_in("fine")
    with pytest.raises(
        ValueError, match=r"rejects lab/cells \(403: Your token has no right to cre"
    ):
        publish(small(), CELLS)
    hub.store.create("datasets", "lab/cells", private=True, sdk=None, author="alice")
    commit = publish(small(), CELLS)
    assert hub.repo("dataset", "lab/cells").refs("tags") == {"v1": commit}


def test_name_of_another_repository_type_is_refused(hub: LoopbackHub) -> None:
    hub.store.create("models", "lab/cells", private=False, sdk=None, author="carol")
    with pytest.raises(ValueError, match="lab/cells is a model on the Hub, and this would be a d"):
        publish(small(), CELLS)


def test_repo_with_different_content_is_refused(hub: LoopbackHub) -> None:
    publish(small("study"), CELLS)
    with pytest.raises(ValueError, match="contains a study, and this is a dataset; choose another"):
        publish(small(), CELLS)


def test_private_files_never_go_to_a_public_repo(hub: LoopbackHub) -> None:
    hub.store.create("datasets", "lab/cells", private=False, sdk=None, author="alice")
    with pytest.raises(ValueError, match="is public, and this publication is private"):
        publish(small(), CELLS)


def test_private_repo_never_becomes_public(hub: LoopbackHub) -> None:
    hub.store.create("datasets", "lab/cells", private=True, sdk=None, author="alice")
    said: list[str] = []
    publish(small(public=True), CELLS, on_event=said.append)
    assert hub.repo("dataset", "lab/cells").facts["private"]
    assert any("stays private" in line for line in said)


def test_non_redistributable_images_are_never_public(published: Any, closed_lab: Any) -> None:
    status, words = published(*closed_lab.words, "--to", "lab/cells", "--public")
    assert status == 1
    assert "the license of closed_lab (other) does not permit redistributing its images" in words


@pytest.mark.parametrize("name", ["wbc_1", "wbc_2"])
def test_challenge_images_are_never_public(name: str) -> None:
    import dataset_scripts

    assert not dataset_scripts.known()[name].redistributable
    assert dataset_scripts.known()[f"toy_{name}"].redistributable


def test_tag_never_changes(hub: LoopbackHub, tmp_path: Path) -> None:
    for destination in (CELLS, PublishFolder(tmp_path / "share/cells")):
        first = Publication("dataset", {"README.md": CARD}, False, "Publish", "final")
        second = Publication("dataset", {"README.md": CARD + b"more"}, False, "Publish", "final")
        commit = publish(first, destination)
        assert publish(first, destination) == commit
        with pytest.raises(ValueError, match=r"exists with other content.*such as v1"):
            publish(second, destination)
        assert publish(first, destination) == commit


@pytest.mark.slow
@pytest.mark.ci
def test_dataset_does_not_replace_another(
    published: Any, open_lab: Any, closed_lab: Any, tmp_path: Path
) -> None:
    for to in ("lab/cells", str(tmp_path / "share/cells")):
        assert published(*closed_lab.words, "--to", to)[0] == 0
        status, words = published(*open_lab.words, "--private", "--to", to)
        assert status == 1
        assert "contains the dataset closed_lab, and this is open_lab; choose another --to" in words


def test_republishing_old_tag_keeps_newest_content(hub: LoopbackHub, tmp_path: Path) -> None:
    old = Publication("dataset", {"README.md": CARD, "a.txt": b"1"}, False, "Publish", "v1")
    for destination in (CELLS, PublishFolder(tmp_path / "share/cells")):
        first = publish(old, destination)
        publish(small(a_txt=b"2"), destination)
        assert publish(old, destination) == first
    assert (tmp_path / "share/cells/a.txt").read_bytes() == b"2"
    assert hub.repo("dataset", "lab/cells").content("main", "a.txt") == b"2"
