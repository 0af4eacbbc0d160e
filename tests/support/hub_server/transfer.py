"""File transfer: LFS uploads to signed URLs, whole or in parts; downloads with ETag and Range."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.hub_server.people import Refusal, Token, require_write
from support.hub_server.repos import PLURALS, readable
from support.hub_server.store import Repo, write_atomically
from support.hub_server.wire import Answer, Request

if TYPE_CHECKING:
    from support.hub_server.server import LoopbackHub, Route


def route(request: Request) -> "Route | None":
    """Return the handler of a request, or None if this module does not serve it."""
    parts = request.parts[1:] if request.parts[0] in PLURALS else request.parts
    match request.method, parts:
        case "POST", [_, _, "info", "lfs", "objects", "batch"]:
            return _batch
        case "PUT", ["uploads", _, _, _, "whole", _]:
            return _put
        case "PUT", ["uploads", _, _, _, "parts", _, _]:
            return _put_part
        case "POST", ["uploads", _, _, _, "complete", _]:
            return _complete
        case "GET" | "HEAD", [_, _, "resolve", _, *rest] if rest:
            return _resolve
    return None


def _batch(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    """Return an upload URL for each object, or nothing if it is already stored."""
    is_model = request.parts[0] not in PLURALS
    plural, owner, name = ("models" if is_model else request.parts[0]), *request.parts[-6:-4][:2]
    repo = readable(hub, plural, f"{owner}/{name.removesuffix('.git')}", token)
    require_write(token, owner, repo.repo_id)
    objects = request.json()["objects"]
    missing = [o for o in objects if not (repo.path / "lfs" / o["oid"]).exists()]
    quota = hub.faults.quota
    if quota is not None and sum(o["size"] for o in missing) + _stored(repo) > quota:
        raise Refusal(403, "Private repository storage limit reached, please upgrade your plan")
    base = f"/uploads/{plural}/{repo.repo_id}"
    answers = []
    for asked in objects:
        answer: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked in missing:
            answer["actions"] = {"upload": _address(hub, base, asked["oid"], asked["size"])}
        answers.append(answer)
    return Answer({"transfer": "basic", "objects": answers})


def _stored(repo: Repo) -> int:
    return sum(file.stat().st_size for file in (repo.path / "lfs").glob("*"))


def _address(hub: "LoopbackHub", base: str, oid: str, size: int) -> dict[str, Any]:
    if hub.part_size is None or size <= hub.part_size:
        return {"href": hub.sign(f"{base}/whole/{oid}")}
    numbers = range(1, -(-size // hub.part_size) + 1)
    header = {f"{n:05d}": hub.sign(f"{base}/parts/{oid}/{n:05d}") for n in numbers}
    header["chunk_size"] = str(hub.part_size)
    return {"href": hub.sign(f"{base}/complete/{oid}"), "header": header}


def _uploaded_to(hub: "LoopbackHub", request: Request) -> Repo:
    hub.require_signature(request)
    return hub.store.repo(request.parts[1], "/".join(request.parts[2:4]))


def _put(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo, oid = _uploaded_to(hub, request), request.parts[5]
    body = request.body()
    if hashlib.sha256(body).hexdigest() != oid:
        raise Refusal(400, "The content has another SHA-256 than announced")
    write_atomically(repo.path / "lfs" / oid, body)
    return Answer(headers={"ETag": f'"{oid[:32]}"'})


def _parts_of(repo: Repo, oid: str) -> Path:
    return repo.path / "parts" / oid


def _put_part(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo, (oid, number) = _uploaded_to(hub, request), request.parts[5:7]
    body = request.body()
    write_atomically(_parts_of(repo, oid) / number, body)
    return Answer(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})


def _complete(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo, oid = _uploaded_to(hub, request), request.parts[5]
    pieces = []
    for part in request.json()["parts"]:
        place = _parts_of(repo, oid) / f"{part['partNumber']:05d}"
        data = place.read_bytes() if place.exists() else b""
        if part["etag"] != f'"{hashlib.md5(data).hexdigest()}"':
            raise Refusal(400, f"part {part['partNumber']} was not uploaded")
        pieces.append(data)
    body = b"".join(pieces)
    if hashlib.sha256(body).hexdigest() != oid:
        raise Refusal(400, "The content has another SHA-256 than announced")
    write_atomically(repo.path / "lfs" / oid, body)
    return Answer({})


def _resolve(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    """Return a file of a revision, or a range of it."""
    parts = request.parts
    plural = "models"
    if parts[0] in PLURALS:
        plural, *parts = parts
    owner, name, _, revision, *path = parts
    repo = readable(hub, plural, f"{owner}/{name}", token, content=True)
    commit = repo.resolve(revision)
    entry = repo.files(commit).get("/".join(path))
    headers = {"X-Repo-Commit": commit}
    if entry is None:
        raise Refusal(404, f"{'/'.join(path)} does not exist", "EntryNotFound", headers)
    headers |= {"ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
    if entry.sha256:
        headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
    headers["Content-Type"] = "application/octet-stream"
    start, end, status = 0, entry.size - 1, 200
    if match := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")):
        first, last = match.groups()
        if first:
            start, end = int(first), min(int(last or end), end)
        else:
            start = max(entry.size - int(last), 0)
        if start >= entry.size:
            raise Refusal(416, "Range not satisfiable")
        status, headers["Content-Range"] = 206, f"bytes {start}-{end}/{entry.size}"
    return Answer(None, status, headers, (repo.read(entry), start, end - start + 1))
