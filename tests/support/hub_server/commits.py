"""Commits: the upload mode of each file, and the commit itself."""

import base64
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from support.hub_server.account import card_errors
from support.hub_server.people import Refusal, Token
from support.hub_server.repos import of_request
from support.hub_server.store import LFS_SUFFIXES, MAX_REGULAR, Entry, Repo
from support.hub_server.wire import Answer, Request

if TYPE_CHECKING:
    from support.hub_server.server import LoopbackHub, Route


def route(request: Request) -> "Route | None":
    """Return the handler of a request, or None if this module does not serve it."""
    match request.method, request.parts:
        case "POST", ["api", _, _, _, "preupload", _]:
            return _preupload
        case "POST", ["api", _, _, _, "commit", _]:
            return _commit
    return None


def _preupload(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token, write=not _opens_pull_request(request))
    files = repo.files(request.parts[5])
    ignored = _ignored(repo, request.parts[5])
    answers = []
    for asked in request.json()["files"]:
        path = asked["path"]
        is_large = path.endswith(LFS_SUFFIXES) or asked["size"] > MAX_REGULAR
        answer = {
            "path": path,
            "uploadMode": "lfs" if is_large else "regular",
            "shouldIgnore": any(fnmatch(p, o) for o in ignored for p in (path, Path(path).name)),
        }
        if path in files:
            answer["oid"] = files[path].etag
        answers.append(answer)
    return Answer({"files": answers})


def _ignored(repo: Repo, revision: str) -> list[str]:
    """Return the .gitignore patterns at a revision, as far as this server supports them."""
    if ".gitignore" not in repo.files(revision):
        return []
    lines = repo.content(revision, ".gitignore").decode().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _commit(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    is_request = _opens_pull_request(request)
    repo = of_request(hub, request, token, write=not is_request)
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    title, parent = "", None
    changes: dict[str, Entry | None] = {}
    for line in request.body().splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            title, parent = value["summary"], value.get("parentCommit")
        elif key == "file":
            data = base64.b64decode(value["content"])
            if len(data) > MAX_REGULAR:
                raise Refusal(400, f"{value['path']} is too large for a regular file")
            changes[value["path"]] = repo.add_blob(value["path"], data)
            if value["path"] == "README.md":
                errors = card_errors(data.decode(), repo.plural[:-1])
                if errors:
                    raise Refusal(400, f"Invalid metadata in README.md: {errors[0]}")
        elif key == "lfsFile":
            changes[value["path"]] = repo.lfs_entry(value["path"], value["oid"], value["size"])
        elif key == "deletedFile":
            changes[value["path"]] = None
        elif key == "deletedFolder":
            prefix = value["path"].rstrip("/") + "/"
            there = repo.files(request.parts[5])
            changes |= {path: None for path in there if path.startswith(prefix)}
        else:
            raise Refusal(400, f"unknown operation {key}")
    branch, number = request.parts[5].removeprefix("refs/heads/"), 0
    if is_request:
        number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs("heads"))
        repo.set_ref("heads", f"refs/pr/{number}", repo.resolve(branch))
        branch = f"refs/pr/{number}"
    oid = repo.commit(branch, changes, title, token.user, parent)
    prefix = "" if repo.plural == "models" else f"{repo.plural}/"
    url = f"{hub.url}/{prefix}{repo.repo_id}/commit/{oid}"
    answer = {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""}
    if is_request:
        answer["pullRequestUrl"] = f"{hub.url}/{prefix}{repo.repo_id}/discussions/{number}"
    return Answer(answer)


def _opens_pull_request(request: Request) -> bool:
    """Whether a commit becomes a pull request, which every user may open who may read."""
    return request.flag("create_pr")
