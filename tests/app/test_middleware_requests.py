"""Requests for unknown paths or with malformed bodies are answered without a server error."""

import json
import random
from typing import Any

import pytest
from support.fuzz import mutated, mutated_json

BODY = {
    "data": [{"path": "a.png", "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}, ""],
    "fn_index": 0, "session_hash": "abc", "event_id": "e", "trigger_id": 1, "api_name": "classify",
    "event_data": {"index": [1, 2]}, "request": {"headers": {}}, "batched": False,
}  # fmt: skip
UNKNOWN = ("run/nothing", "api/nothing", "call/nothing", "call/v2/nothing", "call/nothing/1")
BODIES = (
    b"", b"{", b"[]", b"null", b"{}", b'{"data": null}', b'{"data": 5}', b'{"data": [[[[]]]]}',
    b'{"data": [{"path": "/etc/passwd"}], "fn_index": 10000}', b"[" * 5000,
    b'{"data": [], "fn_index": -1, "session_hash": "a"}', b'{"data": ["\\ud800"], "fn_index": "x"}',
    b'{"data": [], "session_hash": [], "event_id": {}}', b"\xff\xfe", b'{"data": [NaN, 1e999]}',
)  # fmt: skip


def answers(served: Any, path: str, body: bytes) -> Any:
    import httpx

    place = f"{served.url}/gradio_api/{path}"
    return httpx.post(place, content=body, headers={"content-type": "application/json"}, timeout=60)


@pytest.mark.parametrize("path", UNKNOWN)
def test_unknown_endpoint_causes_no_server_error(served: Any, path: str) -> None:
    before = len(served.log.read_text())
    reply = answers(served, path, json.dumps({"data": []}).encode())
    assert 400 <= reply.status_code < 500, reply.text
    assert "Traceback" not in served.log.read_text()[before:]


@pytest.mark.parametrize("path", ["queue/join", "call/classify", "call/count", "run/nothing"])
def test_malformed_body_causes_no_server_error(served: Any, path: str) -> None:
    for body in BODIES:
        reply = answers(served, path, body)
        assert reply.status_code < 500, (body, reply.text)
        assert "0x" not in reply.text and str(served.temporary) not in reply.text


@pytest.mark.parametrize("given", ["Jane Doe 1970", ["Jane Doe 1970"], {"path": ["Jane Doe 1970"]}])
def test_text_in_place_of_file_is_not_logged(served: Any, given: Any) -> None:
    import httpx

    before = len(served.log.read_text())
    body = json.dumps({"data": [given, ""]}).encode()
    reply = answers(served, "call/classify", body)
    if reply.status_code == 200:
        place = f"{served.url}/gradio_api/call/classify/{reply.json()['event_id']}"
        assert "event: error" in httpx.get(place, timeout=60).text
    said = served.log.read_text()[before:]
    assert "Jane" not in said and "Traceback" not in said


@pytest.mark.parametrize("num", [100, pytest.param(4000, marks=pytest.mark.slow)])
def test_fuzzed_body_causes_no_server_error(served: Any, num: int) -> None:
    import httpx

    rng = random.Random(0)
    before = len(served.log.read_text())
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=f"{served.url}/gradio_api/", headers=headers, timeout=60) as client:
        for number in range(num):
            body = mutated_json(BODY, rng)
            text = json.dumps(body).encode()
            if rng.random() < 0.3:
                text = mutated(text, rng)
            path = rng.choice(("queue/join", "call/classify", "call/count", "run/classify"))
            reply = client.post(path, content=text)
            # Gradio answers so when a function refuses what it is given, on this route only.
            is_refused = path == "run/classify" and reply.text == '{"error":null}'
            assert reply.status_code < 500 or is_refused, (number, path, text, reply.text)
        assert client.get("info").status_code == 200
    assert "Traceback" not in served.log.read_text()[before:]
