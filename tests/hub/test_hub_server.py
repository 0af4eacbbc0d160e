"""The loopback Hub with the real clients: commits, LFS, refs, permissions, paging, faults."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from support.hub_server import LoopbackHub

CELLS = "lab/cells"


@pytest.fixture
def api(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    api = HfApi()
    api.create_repo(CELLS, repo_type="dataset", private=True)
    return api


def add(api: HfApi, files: dict[str, bytes], **options: object) -> str:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(
        CELLS, operations, commit_message="add", repo_type="dataset", **options
    ).oid


def test_commit_stays_available_under_its_tag(api: HfApi) -> None:
    first = add(api, {"a b.txt": b"one", "data/x.parquet": b"1" * 100})
    api.create_tag(CELLS, tag="v1", revision=first, repo_type="dataset")
    second = add(api, {"a b.txt": b"two", "data/x.parquet": b"2" * 200})
    for revision, text, num_bytes in (("v1", b"one", 100), ("main", b"two", 200)):
        for name, size in (("a b.txt", len(text)), ("data/x.parquet", num_bytes)):
            path = Path(hf_hub_download(CELLS, name, repo_type="dataset", revision=revision))
            assert path.stat().st_size == size
            assert path.parts[-1 - name.count("/") - 1] == {"v1": first, "main": second}[revision]
    assert [c.commit_id for c in api.list_repo_commits(CELLS, repo_type="dataset")][:2] == [
        second,
        first,
    ]


def test_large_files_are_uploaded_in_parts_without_token(api: HfApi, hub: LoopbackHub) -> None:
    hub.part_size = 1000
    data = bytes(range(256)) * 20
    add(api, {"x.parquet": data, "small.parquet": b"1" * 10})
    assert len(hub.sent("PUT", "/parts/")) == 6
    assert len(hub.sent("PUT", "/whole/")) == 1
    assert hub.repo("dataset", CELLS).content("main", "x.parquet") == data
    assert not [r for r in hub.log if r.target.startswith("/uploads/") and r.user]


def test_existing_files_are_not_sent_again(api: HfApi, hub: LoopbackHub) -> None:
    files = {"x.parquet": b"1" * 100, "a.txt": b"1"}
    first = add(api, files)
    hub.log.clear()
    assert add(api, files) == first
    assert not hub.sent("PUT") and not hub.sent("POST", "/commit/")


def test_stale_parent_is_refused(api: HfApi) -> None:
    first = add(api, {"a.txt": b"1"})
    add(api, {"a.txt": b"2"}, parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="412"):
        add(api, {"a.txt": b"3"}, parent_commit=first)


def test_deletions_and_branches(api: HfApi, hub: LoopbackHub) -> None:
    add(api, {"a.txt": b"1", "b/c.txt": b"2", "b/d.txt": b"3"})
    api.create_branch(CELLS, branch="side/1", repo_type="dataset")
    deleted = [CommitOperationDelete("b/")]
    api.create_commit(CELLS, deleted, commit_message="-", repo_type="dataset", revision="side/1")
    names = api.list_repo_files(CELLS, repo_type="dataset", revision="side/1")
    assert names == [".gitattributes", "a.txt"]
    assert len(api.list_repo_files(CELLS, repo_type="dataset")) == 4
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(CELLS, branch="side/1", repo_type="dataset")


def test_pagination_and_range_requests(api: HfApi, hub: LoopbackHub) -> None:
    from huggingface_hub import HfFileSystem

    hub.page_size = 3
    add(api, {f"d/{n}.txt": b"%d" % n * 50 for n in range(10)})
    assert len(api.list_repo_files(CELLS, repo_type="dataset")) == 11
    with HfFileSystem().open(f"datasets/{CELLS}/d/7.txt", block_size=8) as file:
        file.seek(40)
        assert file.read(5) == b"77777"


def test_private_repo_is_hidden_from_strangers(api: HfApi, hub: LoopbackHub) -> None:
    for token in ("hf_bob", False):
        with pytest.raises(RepositoryNotFoundError):
            api.dataset_info(CELLS, token=token)
    assert api.dataset_info(CELLS, token="hf_reader").private
    api.update_repo_settings(CELLS, private=False, repo_type="dataset")
    assert not api.dataset_info(CELLS, token="hf_bob").private


@pytest.mark.parametrize(("token", "words"), [("hf_reader", "403"), ("hf_bob", "403|404")])
def test_permissions_are_checked_before_writing(
    api: HfApi, hub: LoopbackHub, token: str, words: str
) -> None:
    with pytest.raises(HfHubHTTPError, match=words):
        add(api, {"a.txt": b"1"}, token=token)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami("hf_nobody")


def test_missing_items_raise_hub_errors(api: HfApi) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(CELLS, "no.txt", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(CELLS, revision="v9")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(CELLS, repo_type="dataset")


def test_upload_with_wrong_checksum_is_refused(hub: LoopbackHub, api: HfApi) -> None:
    from huggingface_hub.utils import get_session

    oid = hashlib.sha256(b"right").hexdigest()
    url = hub.sign(f"/uploads/datasets/{CELLS}/whole/{oid}")
    assert get_session().put(url, content=b"wrong").status_code == 400
    assert get_session().put(url.partition("?")[0], content=b"right").status_code == 403


def test_fault_drops_connection_at_given_byte(hub: LoopbackHub, api: HfApi) -> None:
    import httpx2

    hub.faults.cut_at(100)
    with pytest.raises(httpx2.TransportError):
        api.whoami()
    assert hub.faults.num_bytes == 100
    assert api.whoami()["name"] == "alice"


def test_content_survives_server_restart(hub: LoopbackHub, api: HfApi) -> None:
    first = add(api, {"x.parquet": b"1" * 100})
    with LoopbackHub(hub.store.root) as again:
        info = HfApi(endpoint=again.url).dataset_info(CELLS)
        assert info.sha == first
