"""A login page of the network answers in place of the Hub: every command says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hub_server.wire import Answer, Request

from hf_wbc.cli.main import main
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.hub.client import request
from hf_wbc.hub.doctor import examine_hub
from hf_wbc.shipped import shipped

PAGE = b"<!DOCTYPE html><html><title>Hotel WiFi</title>Please log in.</html>"
MODEL = str(shipped("spaces/wbc/toy_model"))
COMMANDS = (
    "predict org/model cells --um-per-px 0.5 --out out.csv",
    "evaluate MODEL org/data",
    "submit org/model --to org/data",
    "publish dataset OPEN --to lab/cells",
    "label org/model cells --um-per-px 0.5 --out out.csv",
    "label MODEL org/data",
    "stress MODEL org/data",
    "patients org/model org/data --labels patients.csv",
    "predict org/model@COMMIT cells --um-per-px 0.5 --out out.csv",
)


@pytest.fixture(params=[200, 302])
def portal(request: Any, hub: Any, monkeypatch: pytest.MonkeyPatch, quick: Any) -> int:
    """Let the Hub answer as a login page does, with the page or a redirection to it."""

    def answer(asked: Request) -> Answer:
        headers = {"Content-Type": "text/html"}
        if request.param == 302 and asked.target != "/login":
            return Answer(status=302, headers={**headers, "Location": "/login"})
        return Answer(PAGE, headers=headers)

    monkeypatch.setattr(hub, "answer", answer)
    return int(request.param)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_reports_login_page(
    portal: int, command: str, open_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("cells").mkdir()
    Path("cells/a.png").write_bytes(b"not needed")
    Path("patients.csv").write_text("group,label\na,x\nb,y\n")
    words = command.replace("COMMIT", "0123456789" * 4).split()
    words = [{"MODEL": MODEL, "OPEN": str(open_lab.folder)}.get(w, w) for w in words]
    if "dataset" in words:
        words += ["--mapping", str(open_lab.mapping)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "is not a Hub" in said and "login page" in said


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"sha": None}, "names the commit None"),
        ({"sha": "../../../escaped"}, "names the commit .*escaped"),
        ({"lastModified": "yesterday"}, "yesterday"),
    ],
)
def test_odd_facts_of_a_repository_are_reported(
    hub: Any, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any], said: str
) -> None:
    facts = json.dumps({"id": "org/model", "sha": "0123456789" * 4, "siblings": [], **odd})
    headers = {"Content-Type": "application/json"}
    monkeypatch.setattr(hub, "answer", lambda _: Answer(facts.encode(), headers=headers))
    with pytest.raises(ValueError, match=f"is not a Hub.*{said}"):
        fetch_snapshot("org/model", "model", None, ["config.json"])


def test_refusal_of_the_client_names_what_to_look_at() -> None:
    def opened() -> None:
        raise RuntimeError("Unexpected response from the hub: 'https://a/b'")

    with pytest.raises(OSError, match=r"Unexpected response.*look at lab/cells"):
        request("opening a pull request", opened, "lab/cells", print)


@pytest.mark.parametrize("name", ["alice", None])
def test_doctor_finds_the_login_page(
    portal: int, name: str | None, log_in: Callable[[str | None], None]
) -> None:
    log_in(name)
    findings = {each.name: each for each in examine_hub()}
    assert "login page" in findings["endpoint"].remedy


def test_page_reports_login_page(
    portal: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from hf_wbc.app.service import PageModel, Service

    service = Service(PageModel("org/model"))
    assert "login page" in str(service.own.load())
    with pytest.raises(ValueError, match="is not a Hub"):
        service.wait()
