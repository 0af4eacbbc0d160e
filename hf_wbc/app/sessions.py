"""Visitors' images in memory, within one limit for all visitors.

A session is deleted soon after its page is closed or after long inactivity. When the memory limit
is reached, the sessions that were idle longest are deleted first; active sessions are kept, and new
visitors are asked to come back. Gradio's own state has no limit and lives for an hour after the
page is closed, so `session_cleanup` deletes it as well.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

import gradio as gr

from hf_wbc.app.limits import Limits
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedImage

NUM_NEWS = 10_000
"""Number of visitors who can still be informed that their images were deleted."""


@dataclass
class _Held:
    """The state of one visitor."""

    used: float
    slide: Slide = field(default_factory=Slide)
    picture: UploadedImage | None = None
    """The image of the tab One cell."""
    left: bool = False
    """Whether the page was closed or the connection lost."""
    reading: Lock = field(default_factory=Lock)

    @property
    def num_bytes(self) -> int:
        return self.slide.num_bytes + (0 if self.picture is None else self.picture.pixels.nbytes)


class Sessions:
    """Thread-safe store of sessions, by Gradio's session hash."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._held: dict[str, _Held] = {}
        self._news: dict[str, None] = {}
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Memory of all images of all sessions."""
        with self._lock:
            return sum(held.num_bytes for held in self._held.values())

    def slide(self, visitor: str) -> Slide:
        """Return a visitor's slide; an empty one for a new visitor."""
        with self._lock:
            return self._of(visitor).slide

    def picture(self, visitor: str) -> UploadedImage | None:
        """Return a visitor's image in the tab One cell."""
        with self._lock:
            return self._of(visitor).picture

    def change(self, visitor: str, change: Callable[[Slide], Slide]) -> Slide:
        """Apply a change to a visitor's current slide and return the new slide.

        Raises:
            ValueError: If there is no memory left; the slide stays as it was.
        """
        with self._lock:
            held = self._of(visitor)
            slide = change(held.slide)
            self._make_room(held, slide.num_bytes - held.slide.num_bytes)
            held.slide = slide
            return slide

    def show(self, visitor: str, picture: UploadedImage | None) -> None:
        """Replace the image of the tab One cell; ValueError if there is no memory left."""
        with self._lock:
            held = self._of(visitor)
            before = 0 if held.picture is None else held.picture.pixels.nbytes
            self._make_room(held, (0 if picture is None else picture.pixels.nbytes) - before)
            held.picture = picture

    def reading(self, visitor: str) -> AbstractContextManager[object]:
        """A lock that serializes predictions of one visitor's slide."""
        with self._lock:
            return self._of(visitor).reading

    def news(self, visitor: str) -> str:
        """Return once that a visitor's images were deleted; empty otherwise."""
        with self._lock:
            if visitor not in self._news:
                return ""
            del self._news[visitor]
        minutes = round(self._limits.idle_seconds / 60)
        return (
            "Your earlier images and corrections were deleted: the page was idle for "
            f"{minutes} minutes, or other visitors needed the memory. Upload them again"
        )

    def leave(self, visitor: str) -> None:
        """Note that a page was closed or lost; the session survives if the visitor returns soon."""
        with self._lock:
            if (held := self._held.get(visitor)) is not None:
                held.left, held.used = True, self._clock()

    def sweep(self) -> None:
        """Delete the sessions that are no longer in use."""
        with self._lock:
            now = self._clock()
            for visitor, held in list(self._held.items()):
                limit = self._limits.grace_seconds if held.left else self._limits.idle_seconds
                if now - held.used >= limit:
                    self._let_go(visitor)

    def _of(self, visitor: str) -> _Held:
        """Return the state of a visitor who is active now."""
        held = self._held.setdefault(visitor, _Held(self._clock()))
        held.used, held.left = self._clock(), False
        return held

    def _make_room(self, own: _Held, num_bytes: int) -> None:
        """Free memory for `num_bytes` more; ValueError if all other visitors are active."""
        now = self._clock()
        free = self._limits.held_bytes - sum(held.num_bytes for held in self._held.values())
        idle = sorted(
            (held.used, visitor)
            for visitor, held in self._held.items()
            if held is not own and held.num_bytes and now - held.used >= self._limits.grace_seconds
        )
        gained = sum(self._held[visitor].num_bytes for _, visitor in idle)
        if 0 < num_bytes > free + gained:
            raise ValueError(
                "too many visitors are using this page, so there is no memory for your images; "
                "come "
                "back in a few minutes, or run `hf-wbc demo` on your own machine"
            )
        for _, visitor in idle:
            if num_bytes <= free:
                return
            free += self._held[visitor].num_bytes
            self._let_go(visitor)

    def _let_go(self, visitor: str) -> None:
        if self._held.pop(visitor).num_bytes:
            self._news[visitor] = None
            if len(self._news) > NUM_NEWS:
                del self._news[next(iter(self._news))]


def visitor_id(request: gr.Request) -> str:
    """The session hash of a request."""
    return str(request.session_hash)


def session_cleanup(
    page: Any, sessions: Sessions, limits: Limits
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a server lifespan that deletes closed and idle sessions.

    Gradio would keep everything a page shows, including images and file names, until a thousand
    other sessions have started.
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
