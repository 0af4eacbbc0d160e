"""Requests that the page never makes: files of others, and addresses to fetch for a stranger."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Receive, Scope, Send


class Refusals:
    """Answers 403 to paths that begin with one of `prefixes`, before Gradio sees them."""

    def __init__(self, app: "ASGIApp", prefixes: Sequence[str]) -> None:
        self.app, self.prefixes = app, tuple(prefixes)

    @classmethod
    def entry(cls, prefixes: Sequence[str]) -> "Middleware":
        """As an entry of an application's middleware."""
        from starlette.middleware import Middleware

        return Middleware(cls, prefixes=prefixes)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.prefixes):
            from starlette.responses import PlainTextResponse

            answer = PlainTextResponse("Nothing is handed out here.", status_code=403)
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)
