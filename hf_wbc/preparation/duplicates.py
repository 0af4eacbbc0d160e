"""Find images that a split must keep together: identical ones, and frames of the same scene.

Besides identical files, Acevedo's archive contains about a hundred pairs of frames that were cut
from one photograph around two neighboring cells. Correlating whole frames finds none of them. Here,
each frame becomes a thumbnail whose darkest spots (nuclei) are anchors. Frames with similar anchors
are aligned at these anchors and compared tile by tile.

The score separates well: among Acevedo's 14,291 frames, the 97 pairs that overlap without being
identical score .87 or more; the next best pair scores .43.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_PX = 48
MIN_SCORE = 0.7

_NUM_ANCHORS = 6
_RADIUS = 5
"""Thumbnail pixels around an anchor that describe it."""
_MIN_CONTRAST = 10.0
"""Standard deviation in gray levels below which a patch is background."""
_MAX_STEP = 6.0
"""Gray levels by which the mean of the same patch may differ between two frames."""
_MIN_LIKENESS = 0.95
_MIN_ROUGH = 0.8
_TILE = 8
_MIN_TEXTURE = 5.0
_MIN_TILES = 4
_BLOCK = 512

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a frame (H, W, 3) to slightly blurred gray levels (48, 48), uint8."""
    gray = Image.fromarray(pixels).convert("L")
    small = np.asarray(gray.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))
    cells: NDArray[np.uint8] = (_blur(small[None].astype(np.float32))[0] + 0.5).astype(np.uint8)
    return cells


def overlapping_pairs(thumbnails: NDArray[np.uint8]) -> Ints:
    """Find pairs of N frames that show the same scene.

    Finds shifts of up to half a frame, but not rotated or mirrored copies.

    Args:
        thumbnails: Gray thumbnails (N, 48, 48) as `thumbnail` makes them.

    Returns:
        Rows (i, j, dy, dx) with i < j, sorted; pixel (y, x) of frame i is at (y - dy, x - dx) in
        frame j.
    """
    candidates = _alike(*_anchors(thumbnails))
    candidates = candidates[(np.abs(candidates[:, 2:]) <= THUMBNAIL_PX // 2).all(axis=1)]
    rough = _by_shift(thumbnails, candidates, _rough_score)
    candidates = candidates[rough > _MIN_ROUGH]
    score = _by_shift(thumbnails, candidates, _tile_score)
    order = np.argsort(-score, kind="stable")
    best = candidates[order][score[order] > MIN_SCORE]
    _, first = np.unique(best[:, :2], axis=0, return_index=True)
    return best[first]


def _blur(images: Floats) -> Floats:
    """Smooth (N, H, W) with a 1-2-1 filter in both directions, repeating edges."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth: Floats = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(16)
    return smooth


def _anchors(thumbnails: NDArray[np.uint8]) -> tuple[Floats, Floats, Ints, Ints]:
    """Return normalized patches (A, D), means (A,), owners (A,) and places (A, 2)."""
    found = [
        _anchors_of(thumbnails[start : start + _BLOCK].astype(np.float32), start)
        for start in range(0, len(thumbnails), _BLOCK)
    ]
    patches, means, owners, places = (np.concatenate(part) for part in zip(*found, strict=True))
    del found  # the patches are large, and are about to be copied again
    order = np.argsort(means, kind="stable")
    return patches[order], means[order], owners[order], places[order]


def _anchors_of(images: Floats, offset: int) -> tuple[Floats, Floats, Ints, Ints]:
    smooth = _blur(_blur(_blur(images)))
    margin = _RADIUS + 1
    inner = smooth[:, margin:-margin, margin:-margin]
    depth = np.where(inner <= _lowest_around(smooth, margin), inner, np.inf)
    depth = depth.reshape(len(images), -1)
    spots = np.argpartition(depth, _NUM_ANCHORS, axis=1)[:, :_NUM_ANCHORS]
    owners, rank = np.nonzero(np.isfinite(np.take_along_axis(depth, spots, axis=1)))
    y, x = np.divmod(spots[owners, rank], inner.shape[2])
    side = 2 * _RADIUS + 1
    windows = sliding_window_view(images, (side, side), (1, 2))
    patches = windows[owners, y + margin - _RADIUS, x + margin - _RADIUS].reshape(-1, side * side)
    means = patches.mean(axis=1)
    patches = patches - means[:, None]
    norms = np.linalg.norm(patches, axis=1)
    keep = norms > _MIN_CONTRAST * side
    places = np.stack([y, x], axis=1)[keep]
    return patches[keep] / norms[keep, None], means[keep], owners[keep] + offset, places


def _lowest_around(images: Floats, margin: int) -> Floats:
    """Return the minimum of each 3 x 3 neighborhood, without `margin` pixels at the edges."""
    low = np.minimum(np.minimum(images[:, :-2], images[:, 1:-1]), images[:, 2:])
    low = np.minimum(np.minimum(low[:, :, :-2], low[:, :, 1:-1]), low[:, :, 2:])
    return low[:, margin - 1 : 1 - margin, margin - 1 : 1 - margin]


def _alike(patches: Floats, means: Floats, owners: Ints, places: Ints) -> Ints:
    """Return candidate pairs (i, j, dy, dx), i < j, from anchors sorted by their means."""
    found = [np.empty((0, 4), dtype=np.int64)]
    for start in range(0, len(patches), _BLOCK):
        stop = min(start + _BLOCK, len(patches))
        end = int(np.searchsorted(means, means[stop - 1] + _MAX_STEP, side="right"))
        a, b = np.nonzero(patches[start:stop] @ patches[start:end].T > _MIN_LIKENESS)
        a, b = a + start, b + start
        a, b = np.where(owners[a] < owners[b], a, b), np.where(owners[a] < owners[b], b, a)
        keep = (owners[a] != owners[b]) & (np.abs(means[a] - means[b]) <= _MAX_STEP)
        a, b = a[keep], b[keep]
        found.append(np.column_stack([owners[a], owners[b], places[a] - places[b]]))
    return np.unique(np.concatenate(found), axis=0)


def _by_shift(
    thumbnails: NDArray[np.uint8],
    pairs: Ints,
    score: Callable[[NDArray[np.uint8], NDArray[np.uint8]], Floats],
) -> Floats:
    """Apply `score` to the shared part of each pair (P,), pairs with the same shift together."""
    scores = np.full(len(pairs), -1, dtype=np.float32)
    order = np.lexsort((pairs[:, 3], pairs[:, 2]))
    edges = np.flatnonzero(np.diff(pairs[order, 2:], axis=0).any(axis=1)) + 1
    for same in np.split(order, edges):
        for start in range(0, len(same), _BLOCK):
            chosen = same[start : start + _BLOCK]
            dy, dx = pairs[chosen[0], 2:]
            first = _part(thumbnails, pairs[chosen, 0], dy, dx)
            second = _part(thumbnails, pairs[chosen, 1], -dy, -dx)
            scores[chosen] = score(first, second)
    return scores


def _part(thumbnails: NDArray[np.uint8], index: Ints, dy: int, dx: int) -> NDArray[np.uint8]:
    """Return the part of frames that overlaps with frames shifted by (dy, dx)."""
    rows = slice(max(0, dy), THUMBNAIL_PX + min(0, dy))
    columns = slice(max(0, dx), THUMBNAIL_PX + min(0, dx))
    return thumbnails[index, rows, columns]


def _rough_score(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """Return the correlation (P,) over every second pixel in both directions."""
    a, b = (x[:, ::2, ::2].reshape(len(x), -1).astype(np.float32) for x in (first, second))
    return _correlation(a, b)


def _tile_score(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """Return the lower quartile (P,) of the correlations of tiles; -1 with too few textured tiles.

    Unlike whole frames, tiles are not misled by a black bar or a bright background in both frames.
    """
    a, b = (_tiles(x) for x in (first, second))
    textured = np.maximum(a.std(axis=2), b.std(axis=2)) > _MIN_TEXTURE
    scores = np.sort(np.where(textured, _correlation(a, b), np.inf), axis=1)
    count = textured.sum(axis=1)
    quartile = np.take_along_axis(scores, (count // 4)[:, None], axis=1)[:, 0]
    return np.where(count >= _MIN_TILES, quartile, -1).astype(np.float32)


def _tiles(images: NDArray[np.uint8]) -> Floats:
    """Cut (P, H, W) into (P, tiles, pixels); the remainder at the lower right is dropped."""
    height, width = (side // _TILE for side in images.shape[1:])
    cut = images[:, : height * _TILE, : width * _TILE].astype(np.float32)
    blocks = cut.reshape(len(images), height, _TILE, width, _TILE).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(len(images), height * width, _TILE * _TILE)


def _correlation(a: Floats, b: Floats) -> Floats:
    """Return Pearson's correlation along the last axis; 0 if one of the two is constant."""
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    norm: Floats = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    norm[norm <= 1e-6] = np.inf
    correlation: Floats = (a * b).sum(axis=-1) / norm
    return correlation


@dataclass(frozen=True)
class Duplicates:
    """Rows that repeat other rows."""

    identical: tuple[tuple[int, ...], ...]
    """Rows with the same pixels, two or more, in ascending order."""
    overlapping: tuple[tuple[int, int], ...]
    """Pairs of rows with different pixels that show the same scene."""


def find_duplicates(digests: Sequence[str], thumbnails: NDArray[np.uint8]) -> Duplicates:
    """Find duplicates among N images.

    Of identical images, only the first appears in overlapping pairs.

    Args:
        digests: SHA-256 of the pixels (N,).
        thumbnails: Gray thumbnails (N, 48, 48), uint8.
    """
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        rows_of.setdefault(digest, []).append(row)
    firsts = np.array([rows[0] for rows in rows_of.values()], dtype=np.int64)
    pairs = firsts[overlapping_pairs(thumbnails[firsts])[:, :2]]
    return Duplicates(
        identical=tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1),
        overlapping=tuple((int(i), int(j)) for i, j in pairs),
    )


def components(num_rows: int, ties: Iterable[Iterable[int]]) -> NDArray[np.int64]:
    """Return the lowest row that each row is tied to, directly or through others (N,).

    >>> components(5, [(3, 4), (1, 3)]).tolist()
    [0, 1, 2, 1, 1]
    """
    parent = list(range(num_rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for tie in ties:
        first, *others = sorted({root(row) for row in tie}) or [0]
        for other in others:
            parent[other] = first
    return np.array([root(row) for row in range(num_rows)], dtype=np.int64)


def keep_together(
    image_ids: Sequence[str], groups: Sequence[str | None], duplicates: Duplicates
) -> list[str]:
    """Name, for each row, the set of rows that must stay in one split: the lowest image id in it.

    Rows of one group (patient, slide, session) and duplicates belong together.
    """
    by_group: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            by_group.setdefault(group, []).append(row)
    ties = [*by_group.values(), *duplicates.identical, *duplicates.overlapping]
    found = components(len(image_ids), ties)
    lowest: dict[int, str] = {}
    for row, name in enumerate(image_ids):
        key = int(found[row])
        lowest[key] = min(name, lowest.get(key, name))
    return [lowest[int(key)] for key in found]
