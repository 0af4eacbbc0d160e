"""Users, the permissions of their tokens, and the Hub's error responses."""

from dataclasses import dataclass, field


class Refusal(Exception):
    """An error response, with the headers that clients read."""

    def __init__(
        self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = headers or {}


@dataclass(frozen=True)
class Token:
    """A user's token; `role` is read, write, or fineGrained."""

    user: str
    role: str
    orgs: tuple[str, ...] = ()
    may_create: bool = True
    """False for a fine-grained token that may write only to existing repositories."""
    only: tuple[str, ...] = ()
    """Repositories that a fine-grained token may write to; empty if not restricted."""
    secret: str = field(default="", repr=False)

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.user, *self.orgs)

    def whoami(self) -> dict[str, object]:
        access: dict[str, object] = {"displayName": self.secret, "role": self.role}
        if self.role == "fineGrained":
            rights = ["repo.content.read", "repo.write"]
            entities = [("dataset", r) for r in self.only] or [("org", o) for o in self.orgs]
            scoped = [
                {"entity": {"type": t, "name": n}, "permissions": rights} for t, n in entities
            ]
            access["fineGrained"] = {"global": [], "scoped": scoped, "canReadGatedRepos": False}
        return {
            "type": "user",
            "id": f"id-{self.user}",
            "name": self.user,
            "fullname": self.user.title(),
            "isPro": False,
            "orgs": [{"type": "org", "name": o, "roleInOrg": "write"} for o in self.orgs],
            "auth": {"type": "access_token", "accessToken": access},
        }


TOKENS = {
    token.secret: token
    for token in (
        Token("alice", "write", ("lab",), secret="hf_alice"),
        Token("alice", "read", ("lab",), secret="hf_reader"),
        Token("alice", "fineGrained", ("lab",), may_create=False, secret="hf_fine"),
        Token(
            "alice",
            "fineGrained",
            ("lab",),
            may_create=False,
            only=("lab/cells",),
            secret="hf_narrow",
        ),
        Token("carol", "write", ("lab",), secret="hf_carol"),
        Token("bob", "write", (), secret="hf_bob"),
    )
}
"""alice and carol belong to `lab`, bob does not; reader, fine, and narrow are alice's."""


def identify(header: str | None) -> Token | None:
    """Return the token of a header; None for an anonymous request, Refusal for an invalid token."""
    if not header:
        return None
    token = TOKENS.get(header.removeprefix("Bearer ").strip())
    if token is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return token


def require_read(
    token: Token | None, owner: str, *, private: bool, gated: bool, content: bool
) -> None:
    """Raise Refusal unless the repository is visible; `content` also checks gated files."""
    is_member = token is not None and owner in token.namespaces
    if private and not is_member:
        status = 401 if token is None else 404
        raise Refusal(status, "Repository not found", "RepoNotFound")
    if gated and content and not is_member:
        status = 401 if token is None else 403
        raise Refusal(status, "Access to this repository is restricted", "GatedRepo")


def require_write(
    token: Token | None, owner: str, repo_id: str = "", *, creating: bool = False
) -> None:
    """Raise Refusal unless the token may write to the owner's repositories and to `repo_id`."""
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    if token.role == "read":
        raise Refusal(403, f"Your token of role read has no right to write to {owner}")
    if owner not in token.namespaces:
        raise Refusal(403, f"You don't have the rights to write in the namespace {owner}")
    if repo_id and token.only and repo_id not in token.only:
        raise Refusal(403, f"Your token has no right to write to {repo_id}")
    if creating and not token.may_create:
        raise Refusal(403, f"Your token has no right to create a repository in {owner}")
