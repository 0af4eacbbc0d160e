"""The doctor says who we are on the Hub, what we may do, and how files go there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_wbc.cli.main import main
from hf_wbc.hub.collection import DESCRIPTION, MAX_DESCRIPTION, Item, collect_on_hub
from hf_wbc.hub.doctor import examine_hub
from hf_wbc.hub.publication import HubRepo

LogIn = Callable[[str | None], None]


def found(to: str | None = None) -> dict[str, Any]:
    return {finding.name: finding for finding in examine_hub(to)}


def test_a_token_with_rights_needs_nothing(hub: Any) -> None:
    findings = found()
    assert findings["endpoint"].value == f"{hub.url}, of your own: names of data stay within"
    assert findings["token"].value == "of alice, who is of lab"
    assert findings["token's rights"].value == "read and write"
    assert not any(finding.remedy for finding in findings.values())


@pytest.mark.parametrize(
    ("who", "name", "words"),
    [
        (None, "token", "none"),
        ("nobody", "token", "refused (401)"),
        ("reader", "token's rights", "read only: publishing needs one with the right to write"),
        ("fine", "token's rights", "fine-grained: lab (repo.content.read, repo.write)"),
    ],
)
def test_what_a_token_may_not_is_said(
    hub: Any, log_in: LogIn, who: str | None, name: str, words: str
) -> None:
    log_in(who)
    assert words in found()[name].value


def test_where_one_means_to_publish_is_looked_at(hub: Any, log_in: LogIn) -> None:
    assert found("lab/cells")["publishing"].value == "lab/cells is yours to write to"
    log_in("bob")
    finding = found("lab/cells")["publishing"]
    assert finding.value == "not to lab/cells" and "bob is no member" in finding.remedy


def test_a_token_that_may_write_elsewhere_alone_is_told(hub: Any, log_in: LogIn) -> None:
    for name in ("lab/cells", "lab/others"):
        HfApi().create_repo(name, repo_type="dataset", private=True)
    log_in("narrow")
    assert found("lab/cells")["publishing"].value == "lab/cells is yours to write to"
    finding = found("lab/others")["publishing"]
    assert finding.value == "not to lab/others"
    assert "Your token has no right to write to lab/others" in finding.remedy


@pytest.mark.parametrize(("speaks", "words"), [(True, "spoken"), (False, "not spoken there")])
def test_xet_is_asked_for_and_not_guessed(hub: Any, speaks: bool, words: str) -> None:
    assert found()["xet"].value.startswith("asked before each upload")
    HfApi().create_repo("lab/cells", repo_type="dataset", private=True)
    hub.xet = speaks
    assert found("lab/cells")["xet"].value.startswith(words)


def test_a_hub_that_does_not_answer_is_a_finding(hub: Any) -> None:
    hub.faults.cut_at(0, dead=True)
    findings = found()
    assert "does not answer" in findings["endpoint"].value
    assert "HF_ENDPOINT" in findings["endpoint"].remedy
    assert findings["token"].value == "unchecked" and "token's rights" not in findings
    hub.faults.clear()


def test_offline_is_said_and_no_host_is_asked(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert list(found()) == ["Hub"] and "offline" in found()["Hub"].value
    assert not hub.log


def test_what_is_published_is_put_into_a_collection_that_holds_it_all(
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


def test_a_collection_is_made_once_and_gets_what_it_lacks(hub: Any) -> None:
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
