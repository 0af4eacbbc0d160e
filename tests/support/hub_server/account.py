"""Accounts and repository management: whoami, create, delete, settings, cards, collections."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml
from support.hub_server.people import Refusal, Token, require_write
from support.hub_server.store import Repo, write_atomically
from support.hub_server.wire import Answer, Request

if TYPE_CHECKING:
    from support.hub_server.server import LoopbackHub, Route

SDKS = ("gradio", "docker", "static", "streamlit")
LICENCES = (
    "apache-2.0", "mit", "cc-by-4.0", "cc-by-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0",
    "other", "unknown", "cc",
)  # fmt: skip
_COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def route(request: Request) -> "Route | None":
    """Return the handler of a request, or None if this module does not serve it."""
    handlers: dict[tuple[str, ...], Callable[..., Answer]] = {
        ("GET", "api", "whoami-v2"): _whoami,
        ("POST", "api", "validate-yaml"): _validate,
        ("POST", "api", "repos", "create"): _create,
        ("DELETE", "api", "repos", "delete"): _delete,
        ("POST", "api", "collections"): _create_collection,
        ("GET", "api", "collections"): _collections,
    }
    if handler := handlers.get((request.method, *request.parts)):
        return handler
    if request.parts[:2] == ["api", "collections"] and len(request.parts) >= 4:
        return _collection
    if request.method == "PUT" and request.parts[-1] == "settings" and len(request.parts) == 5:
        return _settings
    if request.method == "POST" and request.parts[-1] == "variables" and len(request.parts) == 5:
        return _add_variable
    return None


def _whoami(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    return Answer(token.whoami())


def _validate(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    """Report the errors that make the Hub reject a card's YAML."""
    asked = request.json()
    errors = [{"message": message} for message in card_errors(asked["content"], asked["repoType"])]
    answer = {"errors": errors, "warnings": []}
    if errors:
        answer["error"] = errors[0]["message"]  # type: ignore[assignment]
    return Answer(answer, 400 if errors else 200)


def card_errors(content: str, repo_type: str) -> list[str]:
    """Return errors in the YAML of a README, as far as this server checks them."""
    if not content.startswith("---"):
        return ["empty or missing yaml metadata"] if repo_type == "space" else []
    try:
        facts = yaml.safe_load(content.split("---\n")[1])
    except (yaml.YAMLError, IndexError) as error:
        return [f"invalid YAML: {error}"]
    if not isinstance(facts, dict):
        return ["the metadata is no mapping"]
    errors = []
    licences = facts.get("license", "other")
    for licence in licences if isinstance(licences, list) else [licences]:
        if licence not in LICENCES:
            errors.append(f'"license" must be one of {", ".join(LICENCES)}')
    if repo_type == "space":
        if facts.get("sdk") not in SDKS:
            errors.append(f'"sdk" must be one of {", ".join(SDKS)}')
        for key in ("colorFrom", "colorTo"):
            if facts.get(key, "red") not in _COLORS:
                errors.append(f'"{key}" must be one of {", ".join(_COLORS)}')
        if len(facts.get("short_description", "")) > 60:
            errors.append('"short_description" is longer than 60 characters')
    return errors


def _create(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    asked = request.json()
    owner = asked.get("organization") or (token.user if token else "")
    plural = f"{asked.get('type') or 'model'}s"
    repo_id = f"{owner}/{asked['name']}"
    require_write(token, owner, creating=True)
    assert token
    url = f"{hub.url}/{'' if plural == 'models' else plural + '/'}{repo_id}"
    if hub.store.find(plural, repo_id):
        words = f"You already created this {plural[:-1]} repo"
        return Answer({"error": words, "url": url}, 409, {"X-Error-Message": words})
    if plural == "spaces" and asked.get("sdk") not in SDKS:
        raise Refusal(400, "Invalid Space SDK")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    hub.store.create(plural, repo_id, private=private, sdk=asked.get("sdk"), author=token.user)
    return Answer({"url": url, "name": repo_id, "id": f"id-{repo_id}"})


def _delete(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    import shutil

    asked = request.json()
    owner = asked.get("organization") or (token.user if token else "")
    require_write(token, owner)
    shutil.rmtree(_found(hub, f"{asked.get('type') or 'model'}s", f"{owner}/{asked['name']}").path)
    return Answer({})


def _settings(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    _, plural, owner, name, _ = request.parts
    repo = _found(hub, plural, f"{owner}/{name}")
    require_write(token, owner)
    asked = request.json()
    if "visibility" in asked:
        repo.update(private=asked["visibility"] == "private")
    if "gated" in asked:
        repo.update(gated=asked["gated"])
    return Answer(repo.facts)


def _found(hub: "LoopbackHub", plural: str, repo_id: str) -> Repo:
    repo = hub.store.find(plural, repo_id)
    if repo is None:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return repo


def _add_variable(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    """Add a variable to a Space; the response lists all of them."""
    _, plural, owner, name, _ = request.parts
    require_write(token, owner)
    repo = _found(hub, plural, f"{owner}/{name}")
    asked = request.json()
    variables = {**repo.facts.get("variables", {}), asked["key"]: {"value": asked["value"]}}
    repo.update(variables=variables)
    return Answer(variables)


# Collections: one JSON file each, named after its slug


def _create_collection(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    asked = request.json()
    require_write(token, asked["namespace"])
    slug = (
        f"{asked['namespace']}/{asked['title'].lower().replace(' ', '-')}-0123456789abcdef01234567"
    )
    place = hub.store.root / "collections" / f"{slug}.json"
    if place.exists():
        return Answer({"error": "exists", "slug": slug}, 409)
    facts = {
        "slug": slug, "title": asked["title"], "description": asked.get("description", ""),
        "owner": {"name": asked["namespace"], "type": "org"}, "items": [], "position": 0,
        "private": bool(asked.get("private")), "theme": "blue", "upvotes": 0,
        "isUpvotedByUser": False,
        "lastUpdated": "2026-01-01T00:00:00.000Z", "gating": False,
    }  # fmt: skip
    write_atomically(place, json.dumps(facts).encode())
    return Answer(facts)


def _collections(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    files = sorted((hub.store.root / "collections").glob("*/*.json"))
    found = [json.loads(file.read_text()) for file in files]
    owners = request.query.get("owner") or [facts["owner"]["name"] for facts in found]
    mine = [facts for facts in found if facts["owner"]["name"] in owners]
    return Answer([{k: v for k, v in facts.items() if k != "position"} for facts in mine])


def _collection(hub: "LoopbackHub", request: Request, token: Token | None) -> Answer:
    """GET, PATCH, or DELETE a collection and its items."""
    place = hub.store.root / "collections" / "/".join(request.parts[2:4])
    place = place.with_name(f"{place.name}.json")
    if not place.exists():
        raise Refusal(404, "Collection not found")
    facts: dict[str, Any] = json.loads(place.read_text())
    if request.method == "GET":
        return Answer(facts)
    require_write(token, request.parts[2])
    if request.method == "DELETE" and len(request.parts) == 4:
        place.unlink()
        return Answer({})
    asked = request.json()
    if request.method == "PATCH":
        facts |= asked
    elif request.method == "POST":
        item = {
            "_id": f"item{len(facts['items'])}",
            **asked["item"],
            "position": len(facts["items"]),
        }
        if any(i["id"] == item["id"] and i["type"] == item["type"] for i in facts["items"]):
            raise Refusal(409, "Item already in collection")
        if note := asked.get("note"):
            item["note"] = {"text": note, "html": note}
        facts["items"].append(item)
    write_atomically(place, json.dumps(facts).encode())
    return Answer(facts)
