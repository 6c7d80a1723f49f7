"""Which rows are most alike: exact nearest neighbours by cosine, in pieces that fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIMILARITIES = 2**24  # in memory at once: 64 MB
_MANY = 20_000  # rows; beyond, the search is done in fewer dimensions
_DIMENSIONS = 128
_SAMPLE = 5_000


def directions(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, D) of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, np.where(lengths > 0, lengths, 1), dtype=np.float32)


def nearest(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` most similar other rows of each row, by cosine similarity, the most similar first.

    Args:
        rows: (N, D).
        count: how many; where there are fewer other rows, as many as there are.

    Returns:
        Positions and similarities, (N, min(count, N - 1)) each.
    """
    unit = directions(rows)
    size = len(unit)
    count = max(0, min(count, size - 1))
    found = np.empty((size, count), np.int64)
    similar = np.empty((size, count), np.float32)
    step = max(1, _SIMILARITIES // max(1, size))
    for start in range(0, size, step):
        block = unit[start : start + step] @ unit.T
        lines = np.arange(len(block))
        block[lines, start + lines] = -np.inf
        for place in range(count):  # a few passes cost less than a partial sort of each line
            best = block.argmax(axis=1)
            found[start + lines, place] = best
            similar[start + lines, place] = block[lines, best]
            block[lines, best] = -np.inf
    return found, similar


def narrowed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, D) in the 128 principal directions of some of them where N is above 20,000, else as they are.

    For finding candidates only: similarities change a little, and a search of 100,000 rows costs a tenth.
    """
    if len(rows) <= _MANY or rows.shape[1] <= _DIMENSIONS:
        return rows
    sample = rows[np.random.default_rng(0).permutation(len(rows))[:_SAMPLE]].astype(np.float64)
    _, vectors = np.linalg.eigh(sample.T @ sample)
    result: NDArray[np.float32] = rows @ vectors[:, -_DIMENSIONS:].astype(np.float32)
    return result
