"""The doctor names what is missing, and what to do about it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_wbc.hub.doctor import examine


def test_this_machine_is_described(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine(tmp_path / "not" / "yet" / "there")}
    assert {"python", "torch", "disk for work", "cores", "CPU features"} <= findings.keys()
    assert not findings["python"].remedy and not findings["torch"].remedy


def test_a_full_disk_is_met_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    findings = {finding.name: finding for finding in examine(tmp_path)}
    assert findings["disk for work"].remedy.startswith("free 20 GB")
