"""Forgetting visitors: their pictures, and what Gradio keeps of what their pages show."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

import gradio as gr

from hf_wbc.app.limits import Limits
from hf_wbc.app.sessions import Sessions


def visitor(request: gr.Request) -> str:
    """The name of the session that asks."""
    return str(request.session_hash)


def forgetting(
    page: Any, sessions: Sessions, limits: Limits
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan of the server in which visitors are forgotten when they are gone or long idle.

    Gradio keeps all that a page shows, images and names in it, until a thousand others have come.
    """

    async def sweep() -> None:
        while True:
            await asyncio.sleep(min(limits.grace_seconds, limits.idle_seconds) / 10)
            sessions.sweep()
            _forget(page.state_holder, limits)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()

    return lifespan


def _forget(holder: Any, limits: Limits) -> None:
    now = datetime.now()
    with holder.lock:
        for name, session in list(holder.session_data.items()):
            limit = limits.grace_seconds if session.is_closed else limits.idle_seconds
            used = holder.time_last_used.get(name, now)
            if (now - used).total_seconds() >= limit:
                holder.session_data.pop(name)
                holder.time_last_used.pop(name, None)
