"""Limits on what one visitor can upload, so that the page stays available to others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Anything beyond a limit is rejected with an explanation."""

    num_cells: int = 1000
    """Images per upload: files, members of a zip, pages of a TIFF."""
    file_bytes: int = 320 * 2**20
    """Size of one file: an uncompressed field of `num_pixels` has 300 MB. A zip may be as large as
    a whole upload."""
    total_bytes: int = 384 * 2**20
    """Size of one upload, unpacked; also what one session keeps."""
    held_bytes: int = 2 * 2**30
    """Images of all sessions together, and disk space of all pending uploads."""
    num_pixels: int = 100_000_000
    """Pixels of one image: a large field of view; the image of one cell has about 10^5."""
    stored_pixels: int = 4_000_000
    """Pixels from which an image is kept in a file without a name rather than in memory."""
    seconds: float = 240.0
    """Time for the predictions of one upload; the remaining cells wait for the next request."""
    num_waiting: int = 200
    """Length of the request queue; further requests are asked to retry."""
    idle_seconds: float = 1800.0
    """Inactivity after which a session is deleted."""
    grace_seconds: float = 300.0
    """Inactivity after which it is deleted if its page was closed or memory is short."""
    abandoned_seconds: int = 600
    """Age at which an unclaimed upload is deleted."""


LIMITS = Limits()
