"""Visitors' images in memory, within one limit for all visitors.

A session is deleted soon after its page is closed or after long inactivity. Until then a page that
is loaded again gets it back, by a key that only the browser's tab knows. When the memory limit
is reached, the sessions that were idle longest are deleted first; active sessions are kept, and new
visitors are asked to come back. Gradio's own state has no limit and lives for an hour after the
page is closed, so `session_cleanup` deletes it as well.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any

import gradio as gr

from hf_wbc.app.laboratory import Laboratory
from hf_wbc.app.limits import Limits
from hf_wbc.app.samples import Samples
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedImage

_KEY = re.compile("[0-9a-f]{32}")
NUM_NEWS = 10_000
"""Number of visitors who can still be informed that their images were deleted, and of pages whose
tab is known."""


@dataclass
class _Held:
    """The state of one visitor."""

    used: float
    visitor: str = ""
    """The page that used it last."""
    samples: Samples = field(default_factory=Samples)
    picture: UploadedImage | None = None
    """The image of the tab One cell."""
    laboratory: Laboratory | None = None
    """The cells of the tab Label."""
    left: bool = False
    """Whether the page was closed or the connection lost."""
    reading: Lock = field(default_factory=Lock)

    @property
    def num_bytes(self) -> int:
        picture = 0 if self.picture is None else self.picture.pixels.nbytes
        laboratory = 0 if self.laboratory is None else self.laboratory.num_bytes
        return self.samples.num_bytes + picture + laboratory


class Sessions:
    """Thread-safe store of sessions, by Gradio's session hash."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._held: dict[str, _Held] = {}
        self._keys: dict[str, str] = {}
        self._news: dict[str, None] = {}
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Memory of all images of all sessions."""
        with self._lock:
            return sum(held.num_bytes for held in self._held.values())

    def adopt(self, visitor: str, key: str) -> bool:
        """Give a page the session of the pages that were loaded before in the same tab.

        Args:
            visitor: The page.
            key: 32 random hexadecimal digits that the tab keeps; anything else is ignored.

        Returns:
            Whether there are samples to show again.
        """
        if not _KEY.fullmatch(key):
            return False
        with self._lock:
            self._keys[visitor] = key
            if len(self._keys) > NUM_NEWS:
                del self._keys[next(iter(self._keys))]
            held = self._held.get(key)
            if held is None:
                return False
            held.visitor, held.used, held.left = visitor, self._clock(), False
            return any(slide.every for slide in held.samples.slides.values())

    def samples(self, visitor: str) -> Samples:
        """Return a visitor's samples; one empty sample for a new visitor."""
        with self._lock:
            return self._of(visitor).samples

    def slide(self, visitor: str) -> Slide:
        """Return the slide of a visitor's current sample."""
        return self.samples(visitor).slide

    def picture(self, visitor: str) -> UploadedImage | None:
        """Return a visitor's image in the tab One cell."""
        with self._lock:
            return self._of(visitor).picture

    def change(
        self, visitor: str, change: Callable[[Slide], Slide], sample: int | None = None
    ) -> Slide:
        """Apply a change to the slide of a sample, by default the current one, and return it.

        Raises:
            ValueError: If there is no memory left; the slide stays as it was.
        """

        def changed(samples: Samples) -> Samples:
            number = samples.current if sample is None else sample
            if number not in samples.slides:  # a person has discarded it meanwhile
                return samples
            return samples.with_slide(change(samples.slides[number]), number)

        after = self.change_samples(visitor, changed)
        return after.slides.get(after.current if sample is None else sample, Slide())

    def change_samples(self, visitor: str, change: Callable[[Samples], Samples]) -> Samples:
        """Apply a change to a visitor's samples and return them.

        Raises:
            ValueError: If there is no memory left; the samples stay as they were.
        """
        with self._lock:
            held = self._of(visitor)
            samples = change(held.samples)
            self._make_room(held, samples.num_bytes - held.samples.num_bytes)
            held.samples = samples
            return samples

    def show(self, visitor: str, picture: UploadedImage | None) -> None:
        """Replace the image of the tab One cell; ValueError if there is no memory left."""
        with self._lock:
            held = self._of(visitor)
            before = 0 if held.picture is None else held.picture.pixels.nbytes
            self._make_room(held, (0 if picture is None else picture.pixels.nbytes) - before)
            held.picture = picture

    def laboratory(self, visitor: str) -> Laboratory | None:
        """Return the cells of a visitor's tab Label."""
        with self._lock:
            return self._of(visitor).laboratory

    def keep_laboratory(self, visitor: str, laboratory: Laboratory | None) -> None:
        """Replace the cells of the tab Label; ValueError if there is no memory left."""
        with self._lock:
            held = self._of(visitor)
            before = 0 if held.laboratory is None else held.laboratory.num_bytes
            self._make_room(held, (0 if laboratory is None else laboratory.num_bytes) - before)
            held.laboratory = laboratory

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
            held = self._held.get(self._keys.get(visitor, visitor))
            if held is not None and held.visitor == visitor:
                held.left, held.used = True, self._clock()

    def sweep(self) -> None:
        """Delete the sessions that are no longer in use."""
        with self._lock:
            now = self._clock()
            for key, held in list(self._held.items()):
                limit = self._limits.grace_seconds if held.left else self._limits.idle_seconds
                if now - held.used >= limit:
                    self._let_go(key)

    def _of(self, visitor: str) -> _Held:
        """Return the state of a visitor who is active now."""
        held = self._held.setdefault(self._keys.get(visitor, visitor), _Held(self._clock()))
        held.visitor, held.used, held.left = visitor, self._clock(), False
        return held

    def _make_room(self, own: _Held, num_bytes: int) -> None:
        """Free memory for `num_bytes` more; ValueError if all other visitors are active."""
        now = self._clock()
        free = self._limits.held_bytes - sum(held.num_bytes for held in self._held.values())
        idle = sorted(
            (held.used, key)
            for key, held in self._held.items()
            if held is not own and held.num_bytes and now - held.used >= self._limits.grace_seconds
        )
        gained = sum(self._held[key].num_bytes for _, key in idle)
        if 0 < num_bytes > free + gained:
            raise ValueError(
                "too many visitors are using this page, so there is no memory for your images; "
                "come "
                "back in a few minutes, or run `hf-wbc demo` on your own machine"
            )
        for _, key in idle:
            if num_bytes <= free:
                return
            free += self._held[key].num_bytes
            self._let_go(key)

    def _let_go(self, key: str) -> None:
        held = self._held.pop(key)
        if held.num_bytes:
            self._news[held.visitor] = None
            if len(self._news) > NUM_NEWS:
                del self._news[next(iter(self._news))]
        for visitor, own in list(self._keys.items()):
            if own == key and visitor != held.visitor:
                del self._keys[visitor]


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
