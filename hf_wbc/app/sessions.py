"""What visitors hold while they are here: their pictures, in memory, within one bound for all.

A visitor's pictures go soon after the page is closed, or when it is long unused. Where the bound is
reached, those go first that nobody has touched for the longest time. Who is at work keeps theirs:
then a newcomer is asked to come back. Gradio's own state would stay for an hour after a page is
closed, and knows no bound.

Forgetting visitors: their pictures, and what Gradio keeps of what their pages show."""

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
"""Visitors who are still to be told that their pictures are gone; of more the first are not."""


@dataclass
class _Held:
    """One visitor's."""

    used: float
    slide: Slide = field(default_factory=Slide)
    picture: UploadedImage | None = None
    """Of the tab One cell."""
    left: bool = False
    """The page was closed, or the connection broke."""
    reading: Lock = field(default_factory=Lock)

    @property
    def num_bytes(self) -> int:
        return self.slide.num_bytes + (0 if self.picture is None else self.picture.pixels.nbytes)


class Sessions:
    """Safe to use from several threads; visitors are known by Gradio's name of their session."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._held: dict[str, _Held] = {}
        self._news: dict[str, None] = {}
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Of all pictures that are held."""
        with self._lock:
            return sum(held.num_bytes for held in self._held.values())

    def slide(self, visitor: str) -> Slide:
        """A visitor's slide; an empty one for a newcomer."""
        with self._lock:
            return self._of(visitor).slide

    def picture(self, visitor: str) -> UploadedImage | None:
        """A visitor's picture in the tab One cell."""
        with self._lock:
            return self._of(visitor).picture

    def change(self, visitor: str, change: Callable[[Slide], Slide]) -> Slide:
        """Change a visitor's slide as it is now; the new one.

        ValueError when there is no room for it; then the slide stays as it was.
        """
        with self._lock:
            held = self._of(visitor)
            slide = change(held.slide)
            self._make_room(held, slide.num_bytes - held.slide.num_bytes)
            held.slide = slide
            return slide

    def show(self, visitor: str, picture: UploadedImage | None) -> None:
        """Keep a picture in the place of the one before; ValueError when there is no room."""
        with self._lock:
            held = self._of(visitor)
            before = 0 if held.picture is None else held.picture.pixels.nbytes
            self._make_room(held, (0 if picture is None else picture.pixels.nbytes) - before)
            held.picture = picture

    def reading(self, visitor: str) -> AbstractContextManager[object]:
        """Held while a visitor's slide is read: a second reading waits for the first."""
        with self._lock:
            return self._of(visitor).reading

    def news(self, visitor: str) -> str:
        """What a visitor has to be told once: that the pictures are gone; empty for nothing."""
        with self._lock:
            if visitor not in self._news:
                return ""
            del self._news[visitor]
        minutes = round(self._limits.idle_seconds / 60)
        return (
            "The pictures you gave before are gone from here, with your corrections: nothing was "
            f"done for {minutes} minutes, or others needed the room. Give them again"
        )

    def leave(self, visitor: str) -> None:
        """The visitor's page was closed, or the connection broke; whoever comes back soon stays."""
        with self._lock:
            if (held := self._held.get(visitor)) is not None:
                held.left, held.used = True, self._clock()

    def sweep(self) -> None:
        """Let go what nobody uses any more."""
        with self._lock:
            now = self._clock()
            for visitor, held in list(self._held.items()):
                limit = self._limits.grace_seconds if held.left else self._limits.idle_seconds
                if now - held.used >= limit:
                    self._let_go(visitor)

    def _of(self, visitor: str) -> _Held:
        """What a visitor holds, who is here now."""
        held = self._held.setdefault(visitor, _Held(self._clock()))
        held.used, held.left = self._clock(), False
        return held

    def _make_room(self, own: _Held, num_bytes: int) -> None:
        """Room for so many bytes more; ValueError when all others are at work."""
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
                "so many people have pictures here just now that there is no room for yours; come "
                "back in some minutes, or run `hf-wbc demo` on a machine of your own"
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
    """The name of the session that asks."""
    return str(request.session_hash)


def session_cleanup(
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
