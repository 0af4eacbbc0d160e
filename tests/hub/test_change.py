"""Changes by others to a published repository are kept or refused, never lost silently."""

from pathlib import Path

import pytest
from support.hub_publications import CARD, CELLS, small
from support.hub_server import LoopbackHub

from hf_wbc.hub.publication import HubRepo, Publication, PublishFolder
from hf_wbc.hub.publish import publish


def put(hub: LoopbackHub, path: str, content: bytes) -> None:
    """Commit a file directly, as another user."""
    repo = hub.repo("dataset", "lab/cells")
    repo.commit("main", {path: repo.add_blob(path, content)}, "By hand", "carol")


@pytest.mark.parametrize("where", ["the Hub", "a folder"])
def test_hand_edited_card_is_refused_kept_or_replaced(
    hub: LoopbackHub, tmp_path: Path, where: str
) -> None:
    share = PublishFolder(tmp_path / "share/cells")
    destination = CELLS if where == "the Hub" else share

    def read() -> str:
        if destination is share:
            return (share.path / "README.md").read_text()
        return hub.repo("dataset", "lab/cells").content("main", "README.md").decode()

    publish(small(a_parquet=b"1"), destination)
    edited = CARD.decode().replace("other", "other\npretty_name: Ours") + "\nAsk Dr. K. first.\n"
    if destination is share:
        (share.path / "README.md").write_text(edited)
    else:
        put(hub, "README.md", edited.encode())
    newer = Publication(
        "dataset",
        {"README.md": CARD.replace(b"other", b"other\nversion: 2"), "a.parquet": b"2"},
        False,
        "Publish",
    )
    with pytest.raises(ValueError, match="was edited there") as caught:
        publish(newer, destination)
    assert "-Ask Dr. K. first." in str(caught.value) and "+version: 2" in str(caught.value)
    assert read() == edited
    publish(newer, destination, card="keep")
    kept = read()
    assert "Ask Dr. K. first." in kept and "version: 2" in kept and "pretty_name: Ours" in kept
    with pytest.raises(ValueError, match="was edited there"):
        publish(newer, destination)
    publish(newer, destination, card="keep")
    assert read() == kept
    publish(newer, destination, card="replace")
    assert "Dr. K." not in read()
    publish(newer, destination)


def test_initial_readme_of_a_space_may_be_replaced(hub: LoopbackHub) -> None:
    card = b"---\nsdk: gradio\n---\n\n# A Space\n"
    space = Publication("space", {"README.md": card, "app.py": b"print()"}, True, "Publish")
    publish(space, HubRepo("lab/demo", "space"))
    assert hub.repo("space", "lab/demo").content("v1", "README.md") == card
    assert hub.repo("space", "lab/demo").facts["sdk"] == "gradio"


def test_foreign_files_that_would_be_loaded_are_refused(hub: LoopbackHub) -> None:
    hub.store.create("datasets", "lab/cells", private=True, sdk=None, author="alice")
    put(hub, "cropped/train-9.parquet", b"1")
    files = {"README.md": CARD, "cropped/train-0.parquet": b"2"}
    with pytest.raises(ValueError, match=r"contains cropped/train-9\.parquet, which `hf-wbc publi"):
        publish(Publication("dataset", files, False, "Publish"), CELLS)


def test_foreign_uploads_are_not_overwritten(hub: LoopbackHub) -> None:
    hub.store.create("datasets", "lab/cells", private=True, sdk=None, author="carol")
    put(hub, "a.parquet", b"theirs")
    put(hub, "b.parquet", b"the same")
    ours = small(a_parquet=b"ours", b_parquet=b"the same")
    with pytest.raises(
        ValueError, match=r"contains a\.parquet with other content, which `hf-wbc pub"
    ):
        publish(ours, CELLS)
    assert hub.repo("dataset", "lab/cells").content("main", "a.parquet") == b"theirs"
    publish(ours, CELLS, card="replace")
    assert hub.repo("dataset", "lab/cells").content("v1", "a.parquet") == b"ours"
