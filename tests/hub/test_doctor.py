"""The doctor reports what a machine and its Hub account lack, with remedies."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_wbc.hub.doctor import examine, examine_hub

LogIn = Callable[[str | None], None]


def found(to: str | None = None) -> dict[str, Any]:
    return {finding.name: finding for finding in examine_hub(to)}


def test_token_with_permissions_needs_nothing(hub: Any) -> None:
    findings = found()
    assert (
        findings["endpoint"].value
        == f"{hub.url}, a private Hub: names of data are not sent elsewhere"
    )
    assert findings["token"].value == "belongs to alice, a member of lab"
    assert findings["token's rights"].value == "read and write"
    assert not any(finding.remedy for finding in findings.values())


@pytest.mark.parametrize(
    ("who", "name", "words"),
    [
        (None, "token", "none"),
        ("nobody", "token", "rejected (401)"),
        ("reader", "token's rights", "read-only: publishing needs write access"),
        ("fine", "token's rights", "fine-grained: lab (repo.content.read, repo.write)"),
    ],
)
def test_missing_permissions_are_reported(
    hub: Any, log_in: LogIn, who: str | None, name: str, words: str
) -> None:
    log_in(who)
    assert words in found()[name].value


def test_destination_is_checked(hub: Any, log_in: LogIn) -> None:
    assert found("lab/cells")["publishing"].value == "you may write to lab/cells"
    log_in("bob")
    finding = found("lab/cells")["publishing"]
    assert (
        finding.value == "you may not write to lab/cells"
        and "bob is not a member there" in finding.remedy
    )


def test_token_without_write_access_to_repo_is_reported(hub: Any, log_in: LogIn) -> None:
    for name in ("lab/cells", "lab/others"):
        HfApi().create_repo(name, repo_type="dataset", private=True)
    log_in("narrow")
    assert found("lab/cells")["publishing"].value == "you may write to lab/cells"
    finding = found("lab/others")["publishing"]
    assert finding.value == "you may not write to lab/others"
    assert "Your token has no right to write to lab/others" in finding.remedy


@pytest.mark.parametrize(("speaks", "words"), [(True, "supported"), (False, "not supported there")])
def test_xet_support_is_checked_on_the_hub(hub: Any, speaks: bool, words: str) -> None:
    assert found()["xet"].value.startswith("checked before each upload")
    HfApi().create_repo("lab/cells", repo_type="dataset", private=True)
    hub.xet = speaks
    assert found("lab/cells")["xet"].value.startswith(words)


def test_unresponsive_hub_is_reported(hub: Any) -> None:
    hub.faults.cut_at(0, dead=True)
    findings = found()
    assert "does not respond" in findings["endpoint"].value
    assert "HF_ENDPOINT" in findings["endpoint"].remedy
    assert findings["token"].value == "not checked" and "token's rights" not in findings
    hub.faults.clear()


def test_offline_mode_is_reported_without_requests(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert list(found()) == ["Hub"] and "offline" in found()["Hub"].value
    assert not hub.log


def test_local_machine_is_described(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine(tmp_path / "not" / "yet" / "there")}
    assert {"python", "torch", "disk for work", "cores", "CPU features"} <= findings.keys()
    assert not findings["python"].remedy and not findings["torch"].remedy


def test_full_disk_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    findings = {finding.name: finding for finding in examine(tmp_path)}
    assert findings["disk for work"].remedy.startswith("free 20 GB")


def test_invalid_token_characters_are_found_offline(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_\u00e9")
    hub.faults.cut_at(0, dead=True)
    assert "characters that no token contains" in found()["token"].remedy
    hub.faults.clear()


def test_unusable_temporary_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (finding,) = (each for each in examine(tmp_path) if each.name == "temporary files")
    assert "TMPDIR" in finding.remedy and "missing" in finding.remedy

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    (finding,) = (each for each in examine(tmp_path) if each.name == "temporary files")
    assert "set TMPDIR" in finding.remedy


def test_relocated_caches_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "hf_wbc_caches_7" / ".cache" / "huggingface"
    monkeypatch.setenv("HF_HOME", str(moved))
    values = [each.value for each in examine(tmp_path) if each.name == "caches"]
    assert any(str(moved) in value and "no home folder" in value for value in values)
