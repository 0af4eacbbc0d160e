"""Repository contents: metadata, trees, paths, branches, tags, history."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from support.hub_server.people import Refusal, Token, require_read, require_write
from support.hub_server.store import Entry, Repo
from support.hub_server.wire import Answer, Request

if TYPE_CHECKING:
    from support.hub_server.server import LoopbackHub, Route

PLURALS = ("models", "datasets", "spaces")


def route(request: Request) -> "Route | None":
    """Return the handler of a request, or None if this module does not serve it."""
    match request.method, request.parts:
        case "GET", ["api", plural] if plural in PLURALS:
            return _list
        case "GET", ["api", plural, _, _] | ["api", plural, _, _, "revision", _] if (
            plural in PLURALS
        ):
            return _info
        case "GET", ["api", _, _, _, "tree", *_]:
            return _tree
        case "POST", ["api", _, _, _, "paths-info", _]:
            return _paths_info
        case "GET", ["api", _, _, _, "refs"]:
            return _refs
        case "GET", ["api", _, _, _, "commits", _]:
            return _commits
        case "POST" | "DELETE", ["api", _, _, _, "branch", _]:
            return _branch
        case "POST" | "DELETE", ["api", _, _, _, "tag", _]:
            return _tag
        case "GET", ["api", _, _, _, "auth-check"] | ["api", _, _, _, "auth-check", "write"]:
            return _auth_check
        case "GET", ["api", _, _, _, "xet-write-token" | "xet-read-token", _]:
            return _xet_token
    return None


def readable(
    hub: "LoopbackHub", plural: str, repo_id: str, token: Token | None, *, content: bool = False
) -> Repo:
    """Return a repository that the token may read; else raise Refusal as if it did not exist."""
    repo = hub.store.find(plural, repo_id)
    if repo is None:
        raise Refusal(401 if token is None else 404, "Repository not found", "RepoNotFound")
    facts = repo.facts
    require_read(
        token, repo.owner, private=facts["private"], gated=bool(facts["gated"]), content=content
    )
    return repo


def of_request(
    hub: "LoopbackHub", request: Request, token: Token | None, *, write: bool = False
) -> Repo:
    """Return the repository of /api/PLURAL/org/name/...; Refusal without read (or write) access."""
    _, plural, owner, name, *_ = request.parts
    repo = readable(hub, plural, f"{owner}/{name}", token, content=not write)
    if write:
        require_write(token, owner, repo.repo_id)
    return repo


def _list(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    found = []
    for repo in hub.store.all(request.parts[1]):
        member = token is not None and repo.owner in token.namespaces
        if request.query.get("author", [repo.owner]) == [repo.owner] and (
            member or not repo.facts["private"]
        ):
            found.append(_facts(repo, "main", blobs=False))
    return Answer(found)


def _info(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    _, plural, owner, name, *rest = request.parts
    repo = readable(hub, plural, f"{owner}/{name}", token)
    return Answer(_facts(repo, rest[1] if rest else "main", blobs=request.flag("blobs")))


def _facts(repo: Repo, revision: str, *, blobs: bool) -> dict[str, Any]:
    commit = repo.resolve(revision)
    facts = repo.facts
    siblings = [_sibling(entry, blobs) for entry in repo.files(commit).values()]
    info: dict[str, Any] = {
        "_id": "0123456789abcdef01234567", "id": repo.repo_id, "sha": commit, "author": repo.owner,
        "private": facts["private"], "gated": facts["gated"], "disabled": False, "tags": [],
        "lastModified": repo.commit_info(commit)["date"], "siblings": siblings, "downloads": 0,
        "createdAt": "2026-01-01T00:00:00.000Z", "likes": 0,
    }  # fmt: skip
    if repo.plural == "models":
        info["modelId"] = repo.repo_id
    if repo.plural == "spaces":
        info["sdk"] = facts["sdk"]
        info["subdomain"] = repo.repo_id.replace("/", "-")
    return info


def _sibling(entry: Entry, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        sibling |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
    return sibling


def _tree(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token)
    revision, *rest = request.parts[5:]
    prefix = f"{'/'.join(rest)}/" if rest else ""
    commit = repo.resolve(revision)
    files = [e for path, e in repo.files(commit).items() if path.startswith(prefix)]
    if prefix and not files:
        raise Refusal(404, f"{'/'.join(rest)} does not exist on {revision}", "EntryNotFound")
    entries: list[dict[str, Any]] = []
    seen: set[str] = set()
    for entry in files:
        inner = entry.path[len(prefix) :].split("/")
        for depth in range(1, len(inner)):
            folder = prefix + "/".join(inner[:depth])
            if folder not in seen and (depth == 1 or request.flag("recursive")):
                seen.add(folder)
                entries.append({"type": "directory", "path": folder, "size": 0, "oid": "0" * 40})
        if len(inner) == 1 or request.flag("recursive"):
            entries.append(entry.to_api())
    if request.flag("expand"):
        info = repo.commit_info(commit)
        last = {"id": commit, "title": info["title"], "date": info["date"]}
        entries = [{**entry, "lastCommit": last} for entry in entries]
    return _page(hub, request, entries)


def _page(hub: "LoopbackHub", request: Request, entries: Sequence[Any]) -> Answer:
    """Return one page, with the URL of the next in the Link header."""
    start = int(request.query.get("cursor", ["0"])[0])
    end = start + hub.page_size
    headers = {}
    if end < len(entries):
        path, _, query = request.target.partition("?")
        kept = "&".join(f"{k}={v[0]}" for k, v in parse_qs(query).items() if k != "cursor")
        headers["Link"] = f'<{hub.url}{path}?{kept}&cursor={end}>; rel="next"'
    return Answer(list(entries[start:end]), headers=headers)


def _paths_info(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token)
    files = repo.files(request.parts[5])
    body = request.body()
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/json"):
        import json

        paths = json.loads(body)["paths"]
    else:
        paths = parse_qs(body.decode()).get("paths", [])
    found = []
    for path in paths:
        if path in files:
            found.append(files[path].to_api())
        elif any(name.startswith(f"{path}/") for name in files):
            found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
    return Answer(found)


def _refs(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token)

    def listed(kind: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
            for name, commit in repo.refs(kind).items()
        ]

    return Answer({"branches": listed("heads"), "tags": listed("tags"), "converts": []})


def _commits(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token)
    history = [
        {
            "id": commit["id"], "title": commit["title"], "message": "", "date": commit["date"],
            "authors": [{"user": commit["author"]}],
        }
        for commit in repo.history(request.parts[5])
    ]  # fmt: skip
    return _page(hub, request, history)


def _branch(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token, write=True)
    name = request.parts[5]
    if request.method == "DELETE":
        repo.delete_ref("heads", name)
    elif name in repo.refs("heads"):
        raise Refusal(409, f"Reference already exists: {name}")
    else:
        repo.set_ref("heads", name, repo.resolve(request.json().get("startingPoint", "main")))
    return Answer({})


def _tag(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    repo = of_request(hub, request, token, write=True)
    if request.method == "DELETE":
        repo.delete_ref("tags", request.parts[5])
        return Answer({})
    name = request.json()["tag"]
    if name in repo.refs("tags"):
        raise Refusal(409, f"Tag reference exists already: {name}")
    repo.set_ref("tags", name, repo.resolve(request.parts[5]))
    return Answer({})


def _auth_check(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    of_request(hub, request, token, write=request.parts[-1] == "write")
    return Answer({})


def _xet_token(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    of_request(hub, request, token, write="write" in request.parts[4])
    if not hub.xet:
        raise Refusal(404, "Not Found")
    values = {"casUrl": f"{hub.url}/cas", "exp": 4102444800, "accessToken": "xet"}
    headers = {
        "X-Xet-Cas-Url": f"{hub.url}/cas", "X-Xet-Token-Expiration": "4102444800",
        "X-Xet-Access-Token": "xet",
    }  # fmt: skip
    return Answer(values, headers=headers)
