"""A busy, full, or concurrently used Hub: retries, or a one-line error with a remedy."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hub_publications import CARD, CELLS, small
from support.hub_server import LoopbackHub

from hf_wbc.hub.publication import Publication, PublishFolder
from hf_wbc.hub.publish import publish


def test_rate_limit_waits_as_long_as_requested(hub: LoopbackHub, quick: list[float]) -> None:
    said: list[str] = []
    hub.faults.answer("POST", "/commit/", 429, times=2, headers={"Retry-After": "37"})
    hub.faults.answer("GET", "/refs", 429, headers={"Retry-After": "5"})
    commit = publish(small(), CELLS, on_event=said.append)
    assert hub.repo("dataset", "lab/cells").refs("tags") == {"v1": commit}
    assert [seconds for seconds in quick if seconds >= 5] == [5, 37, 37]
    assert sum("trying again in 37 s" in line for line in said) == 2


def test_rate_limit_that_is_no_number_is_ignored(hub: LoopbackHub, quick: list[float]) -> None:
    hub.faults.answer("POST", "/commit/", 429, headers={"Retry-After": "\u00b2"})
    publish(small(), CELLS)


def test_rate_limit_header_of_public_hub_is_respected(hub: LoopbackHub, quick: list[float]) -> None:
    hub.faults.answer("POST", "/commit/", 429, headers={"RateLimit": '"api";r=0;t=41'})
    publish(small(), CELLS)
    assert 41 in quick


def test_overlong_rate_limit_raises_instead_of_sleeping(
    hub: LoopbackHub, quick: list[float]
) -> None:
    hub.faults.answer("POST", "/commit/", 429, times=9, headers={"Retry-After": "3600"})
    with pytest.raises(OSError, match=r"is busy \(a fault on demand: 429\); nothing was published"):
        publish(small(), CELLS)
    assert max(quick, default=0) < 3600
    hub.faults.clear()
    publish(small(), CELLS)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("where", ["/commit/", "/tag/", "/preupload/", "/objects/batch", "create"])
@pytest.mark.slow
@pytest.mark.ci
def test_temporary_server_error_is_retried(
    hub: LoopbackHub, quick: list[float], status: int, where: str
) -> None:
    hub.faults.answer("POST", where, status, times=2)
    commit = publish(small(a_parquet=b"1" * 100), CELLS)
    repo = hub.repo("dataset", "lab/cells")
    assert repo.refs("tags") == {"v1": commit}
    assert len(list(repo.history("main"))) == 2


def test_persistent_server_error_is_reported_and_nothing_published(
    hub: LoopbackHub, quick: list[float]
) -> None:
    hub.faults.answer("POST", "/commit/", 500, times=99)
    with pytest.raises(OSError, match="nothing was published; repeat the command") as caught:
        publish(small(), CELLS)
    assert "\n" not in str(caught.value)
    assert list(hub.repo("dataset", "lab/cells").files("main")) == [".gitattributes"]


def test_full_storage_is_reported(hub: LoopbackHub) -> None:
    hub.faults.quota = 10
    with pytest.raises(
        ValueError, match=r"403: Private repository storage limit reached.*free storage"
    ):
        publish(small(a_parquet=b"1" * 100), CELLS)
    assert list(hub.repo("dataset", "lab/cells").files("main")) == [".gitattributes"]


def test_invalid_card_is_reported_before_sending(hub: LoopbackHub) -> None:
    card = CARD.replace(b"other", b"ours")
    wrong = Publication("dataset", {"README.md": card, "a.parquet": b"1"}, False, "Publish")
    with pytest.raises(ValueError, match='"license" must be one of'):
        publish(wrong, CELLS)
    assert not hub.sent("PUT")


def test_lost_response_does_not_cause_second_commit(hub: LoopbackHub, quick: list[float]) -> None:
    gate = hub.faults.hold("POST", "/commit/")
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(publish(small(), CELLS)))
    thread.start()
    assert gate.reached.wait(60)
    hub.faults.cut_at(1)  # the request arrives, but its response is lost
    gate.open()
    thread.join(60)
    repo = hub.repo("dataset", "lab/cells")
    assert [commit["title"] for commit in repo.history("main")] == ["Publish", "initial commit"]
    assert repo.refs("tags") == {"v1": done[0]}


def test_two_concurrent_publications_both_complete(hub: LoopbackHub) -> None:
    publish(small(a_parquet=b"0"), CELLS)
    gate = hub.faults.hold("POST", "/commit/")
    said: list[str] = []
    slow: list[str] = []

    def publish_slowly() -> None:
        slow.append(publish(small(a_parquet=b"1", b_parquet=b"1"), CELLS, on_event=said.append))

    thread = threading.Thread(target=publish_slowly)
    thread.start()
    assert gate.reached.wait(60)
    quick = publish(small(a_parquet=b"2", c_parquet=b"2"), CELLS)
    gate.open()
    thread.join(60)
    repo = hub.repo("dataset", "lab/cells")
    assert repo.refs("tags")["v2"] == quick and repo.refs("tags")["v3"] == slow[0]
    assert {path[0] for path in repo.files("v2") if path.endswith("t")} == {"a", "c"}
    assert {path[0] for path in repo.files("v3") if path.endswith("t")} == {"a", "b"}
    assert repo.content("v2", "a.parquet") == b"2" and repo.content("v3", "a.parquet") == b"1"
    assert any("someone else has published" in line for line in said)


def test_edit_during_publication_is_not_overwritten(hub: LoopbackHub) -> None:
    publish(small(a_parquet=b"0"), CELLS)
    gate = hub.faults.hold("POST", "/commit/")
    caught: list[ValueError] = []

    def publish_slowly() -> None:
        newer = {"README.md": CARD + b"\nMore.\n", "a.parquet": b"1"}
        try:
            publish(Publication("dataset", newer, False, "Publish"), CELLS)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=publish_slowly)
    thread.start()
    assert gate.reached.wait(60)
    repo = hub.repo("dataset", "lab/cells")
    edited = CARD + b"\nAsk Dr. K.\n"
    repo.commit("main", {"README.md": repo.add_blob("README.md", edited)}, "By hand", "carol")
    gate.open()
    thread.join(60)
    assert "was edited there" in str(caught[0])
    assert repo.content("main", "README.md") == edited


def test_tag_taken_concurrently_is_left_alone(hub: LoopbackHub) -> None:
    gate = hub.faults.hold("POST", "/tag/")
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(publish(small(), CELLS)))
    thread.start()
    assert gate.reached.wait(60)
    repo = hub.repo("dataset", "lab/cells")
    first = [*repo.history("main")][-1]["id"]
    repo.set_ref("tags", "v1", first)
    gate.open()
    thread.join(60)
    assert repo.refs("tags") == {"v1": first, "v2": done[0]}


def test_concurrent_publications_to_a_folder_are_serialized(tmp_path: Path) -> None:
    share = PublishFolder(tmp_path / "share/cells")
    versions = [small(a_parquet=str(number).encode() * 2_000_000) for number in range(4)]
    threads = [threading.Thread(target=publish, args=(version, share)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    tagged = {(tmp_path / f"share/cells@v{n}/a.parquet").read_bytes()[:1] for n in (1, 2, 3, 4)}
    assert tagged == {b"0", b"1", b"2", b"3"}


def test_offline_mode_sends_no_request(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set; unset it to publish, or give a f"):
        publish(small(), CELLS)
    assert not hub.log


def test_hub_without_xet_falls_back_to_lfs(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    said: list[str] = []
    publish(small(a_parquet=b"1" * 100), CELLS, on_event=said.append)
    assert any("does not support xet; large files are sent by LFS" in line for line in said)
    assert constants.HF_HUB_DISABLE_XET
    assert len(hub.sent("PUT", "/whole/")) == 1


def test_unreachable_xet_store_is_reported(
    hub: LoopbackHub, quick: list[float], client_env: Callable[..., dict[str, str]]
) -> None:
    hub.xet = True
    with pytest.raises(OSError, match=r"nothing was published.*HF_HUB_DISABLE_XET=1"):
        publish(small(a_parquet=b"1" * 100), CELLS)
    assert list(hub.repo("dataset", "lab/cells").files("main")) == [".gitattributes"]


def test_silently_dropped_files_are_detected(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.hub_server import Repo

    keep = Repo.commit

    def forgetful(self: Repo, branch: str, changes: dict, *rest: object) -> str:  # type: ignore[type-arg]
        return keep(self, branch, {p: e for p, e in changes.items() if p != "a.txt"}, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Repo, "commit", forgetful)
    with pytest.raises(
        OSError, match=r"lacks files that were committed to it: a\.txt; nothing was tagged"
    ):
        publish(small(a_txt=b"1"), CELLS)
    assert not hub.repo("dataset", "lab/cells").refs("tags")


def test_branch_gets_commit_but_no_tag(hub: LoopbackHub) -> None:
    main = publish(small(a_txt=b"0"), CELLS)
    step = publish(small(a_txt=b"1"), CELLS, branch="training-1")
    repo = hub.repo("dataset", "lab/cells")
    assert repo.refs("heads") == {"main": main, "training-1": step}
    assert repo.refs("tags") == {"v1": main}
    assert repo.content("training-1", "a.txt") == b"1"
