"""All visitors share one memory limit, and their data is deleted when they leave."""

import threading

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.limits import Limits
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedImage, Uploads

SIDE = 10
CELL = SIDE * SIDE * 3
LIMITS = Limits(held_bytes=10 * CELL, idle_seconds=1800, grace_seconds=300)


class Clock:
    """A clock that the test controls."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def give(sessions: Sessions, who: str, num: int) -> Slide:
    """Upload `num` distinct cells as one visitor."""
    rng = np.random.default_rng()
    made = rng.integers(0, 256, (num, SIDE, SIDE, 3), dtype=np.uint8)
    cells = tuple(UploadedImage(f"{i}.png", pixels) for i, pixels in enumerate(made))
    return sessions.change(who, lambda slide: slide.added(Uploads(cells), LIMITS))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(LIMITS, clock)


def test_visitors_do_not_see_each_other(sessions: Sessions) -> None:
    give(sessions, "a", 2)
    assert len(sessions.slide("a").every) == 2
    assert sessions.slide("b") == Slide() and sessions.picture("b") is None
    assert sessions.num_bytes == 2 * CELL


def test_oldest_idle_visitors_are_evicted_and_notified(sessions: Sessions, clock: Clock) -> None:
    for who in ("a", "b", "c"):
        give(sessions, who, 3)
        clock.now += 100
    clock.now += 200
    give(sessions, "d", 3)
    assert sessions.num_bytes <= LIMITS.held_bytes
    assert not sessions.slide("a").every and len(sessions.slide("b").every) == 3
    assert "images and corrections were deleted" in sessions.news("a")
    assert sessions.news("a") == sessions.news("b") == ""


def test_active_visitor_keeps_images_and_newcomer_is_refused(
    sessions: Sessions, clock: Clock
) -> None:
    give(sessions, "a", 6)
    clock.now += LIMITS.grace_seconds - 1
    with pytest.raises(ValueError, match="no memory for your images; come back"):
        give(sessions, "b", 6)
    assert len(sessions.slide("a").every) == 6 and not sessions.slide("b").every
    give(sessions, "b", 4)
    with pytest.raises(ValueError, match="no memory"):
        give(sessions, "b", 1)
    assert len(sessions.slide("b").every) == 4


def test_no_one_is_evicted_when_it_would_not_free_enough(sessions: Sessions, clock: Clock) -> None:
    give(sessions, "a", 2)
    clock.now += LIMITS.grace_seconds
    give(sessions, "b", 8)
    with pytest.raises(ValueError, match="no memory"):
        give(sessions, "c", 5)
    assert len(sessions.slide("a").every) == 2


def test_single_cell_image_counts_toward_memory_and_is_replaced(sessions: Sessions) -> None:
    for _ in range(3):
        sessions.show("a", UploadedImage("a.png", np.zeros((4 * SIDE, 2 * SIDE, 3), np.uint8)))
    assert sessions.num_bytes == 8 * CELL
    with pytest.raises(ValueError, match="no memory"):
        give(sessions, "b", 3)
    sessions.show("a", None)
    assert sessions.num_bytes == 0


def test_closed_and_idle_sessions_are_deleted(sessions: Sessions, clock: Clock) -> None:
    for who in ("closed", "back", "idle", "busy"):
        give(sessions, who, 2)
    sessions.leave("closed")
    sessions.leave("back")
    clock.now += LIMITS.grace_seconds - 1
    sessions.slide("back")
    sessions.sweep()
    assert sessions.num_bytes == 8 * CELL
    clock.now += 1
    sessions.sweep()
    assert sessions.num_bytes == 6 * CELL
    clock.now += LIMITS.idle_seconds - LIMITS.grace_seconds
    sessions.slide("busy")
    sessions.sweep()
    assert sessions.num_bytes == 4 * CELL
    assert len(sessions.slide("busy").every) == len(sessions.slide("back").every) == 2
    sessions.leave("nobody")


def test_concurrent_changes_are_all_kept() -> None:
    sessions = Sessions(Limits())
    threads = [threading.Thread(target=give, args=(sessions, "a", 1)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [one.number for one in sessions.slide("a").every]
    assert numbers == list(range(1, 41))
