"""How much one person may give the page at once, so that it stays there for the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is beyond one of these is refused, with a sentence that says so."""

    num_cells: int = 1000
    """Images of one drop: files, members of a zip, pages of a TIFF."""
    file_bytes: int = 64 * 2**20
    """Of one file; a zip may be as large as a whole drop."""
    total_bytes: int = 192 * 2**20
    """Of one drop, unpacked; it is what a session keeps in memory."""
    held_bytes: int = 2 * 2**30
    """What all sessions together keep in memory, and all waiting uploads on the disk."""
    num_pixels: int = 16_000_000
    """Of one image: a cell's frame has some 10^5."""
    seconds: float = 240.0
    """For the answers to one drop; the cells that are left wait for the next."""
    num_waiting: int = 200
    """Requests in the queue; one more is asked to come back."""
    idle_seconds: float = 1800.0
    """After which a session that does nothing is forgotten."""
    grace_seconds: float = 300.0
    """After which it is when its page was closed, or others need the room."""
    abandoned_seconds: int = 600
    """After which an upload is deleted that nobody has asked about."""


LIMITS = Limits()
