"""Near-duplicates: pictures that were re-encoded, resized or cropped a little, found among 100,000.

Candidates are cheap: the nearest neighbours by a perceptual hash, and by whatever features the caller has. Each
candidate is then confirmed by its pixels (`data.alignment`), so that two pictures that merely look alike to a hash or
to a network, as pictures of one repetitive texture do, are not reported.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.alignment import Sketches, likeness
from regraft.data.neighbours import narrowed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIDE, COLOUR_SIDE = 64, 16
"""Pixels of a sketch's grey picture and of its colours: 4.6 kB an image."""

THRESHOLD = 0.75
"""Likeness from which two pictures count as one.

Chosen on 200 copies planted into 600 photographs and 2,000 product pictures: re-encoded, resized and cropped ones had
0.80 and more, other pairs of photographs 0. Of the product pictures, 60 x 80 pixels on white, 178 other pairs lie above
it: the same thing from the same side in another make, some of them truly the same picture.
"""

_HASH = 8  # frequencies along each axis
_NEIGHBOURS = 5
_AT_A_TIME = 512


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of which one is a changed copy of the other.

    Attributes:
        first: position of one of them.
        second: position of the other, larger.
        likeness: how far they agree, `THRESHOLD` to 1.
    """

    first: int
    second: int
    likeness: float


def perceptual_hash(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The 63 lowest frequencies of each picture but its mean, (N, 63), compared by cosine similarity.

    As in the perceptual hash of Zauner (2010), they are those of a discrete cosine transform; their signs are not
    taken, as real numbers rank neighbours better than 63 bits and cost no more to search.

    Args:
        grey: (N, S, S).
    """
    waves = _waves(grey.shape[1])
    hashed = np.empty((len(grey), _HASH * _HASH - 1), np.float32)
    for start in range(0, len(grey), _AT_A_TIME):
        part = grey[start : start + _AT_A_TIME].astype(np.float32)
        hashed[start : start + _AT_A_TIME] = (waves @ part @ waves.T).reshape(len(part), -1)[:, 1:]
    return hashed


@lru_cache
def _waves(side: int) -> NDArray[np.float32]:
    """The first eight rows of the orthonormal DCT-II of length `side`."""
    frequency, place = np.arange(_HASH)[:, None], np.arange(side)[None]
    rows = np.cos(np.pi * (place + 0.5) * frequency / side) * np.sqrt(2 / side)
    rows[0] /= np.sqrt(2)
    result: NDArray[np.float32] = rows.astype(np.float32)
    return result


def near_duplicates(
    sketches: Sketches, features: NDArray[np.float32] | None = None, *, threads: int = 1, threshold: float = THRESHOLD
) -> tuple[Pair, ...]:
    """Pairs of images of which one is a re-encoded, resized or slightly cropped copy of the other.

    Memory grows with N, time with N squared, in matrix products: see docs/data.md.

    Args:
        sketches: of N images, no two of them identical files.
        features: (N, D) of the same images; they find what a crop hides from the hash.
        threads: how many pieces are confirmed at the same time.
        threshold: likeness that a pair must have.
    """
    found = [_candidates(perceptual_hash(sketches.grey), _NEIGHBOURS)]
    if features is not None:
        found.append(_candidates(narrowed(features), _NEIGHBOURS))
    pairs = np.unique(np.concatenate(found), axis=0)
    pieces = [pairs[start : start + _AT_A_TIME] for start in range(0, len(pairs), _AT_A_TIME)]

    def confirm(piece: NDArray[np.int64]) -> NDArray[np.float32]:
        return likeness(sketches.take(piece[:, 0]), sketches.take(piece[:, 1]))

    with ThreadPoolExecutor(threads) as pool:
        alike = list(pool.map(confirm, pieces))
    return tuple(
        Pair(int(first), int(second), float(value))
        for piece, values in zip(pieces, alike, strict=True)
        for (first, second), value in zip(piece, values, strict=True)
        if value >= threshold
    )


def _candidates(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Each row beside its nearest ones, (P, 2), the smaller position first."""
    neighbours, _ = nearest(rows, count)
    own = np.repeat(np.arange(len(rows)), neighbours.shape[1])
    return np.sort(np.column_stack([own, neighbours.ravel()]), axis=1)


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Join what pairs join, also through others: for each of `count` positions the smallest one of its cluster."""
    root = list(range(count))

    def top(position: int) -> int:
        while root[position] != position:
            root[position] = root[root[position]]
            position = root[position]
        return position

    for first, second in pairs:
        low, high = sorted((top(first), top(second)))
        root[high] = low
    return np.array([top(position) for position in range(count)], np.int64)
