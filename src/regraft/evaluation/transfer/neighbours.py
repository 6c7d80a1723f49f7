"""Nearest neighbours, each image left out in turn: nothing is fitted and nothing chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.heads.knn import directions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NEIGHBOURS = 5
_CHUNK = 1024


def left_out_neighbours(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    units: NDArray[np.integer[Any]],
    *,
    neighbours: int = NEIGHBOURS,
    blocks: Sequence[int] = (),
) -> NDArray[np.int64]:
    """The class that the most similar other images have, by cosine similarity; the more similar ones win a draw.

    Args:
        features: (N, D); their scale does not matter.
        targets: (N,) class indices.
        units: (N,) images of one unit (a group, identical files) are no neighbours of each other.
        neighbours: how many have a vote; fewer where fewer are allowed.
        blocks: widths of several backbones' features side by side, whose similarities are averaged.

    Returns:
        (N,) class indices; -1 where an image has no neighbour at all.
    """
    rows = directions(features, blocks)
    present, positions = np.unique(targets, return_inverse=True)
    said = np.full(len(rows), -1, np.int64)
    count = min(neighbours, len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        similar = (rows[part] @ rows.T).astype(np.float64)
        similar[units[part, None] == units] = -np.inf
        nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        closeness = np.take_along_axis(similar, nearest, axis=1)
        voters = np.isfinite(closeness)
        # All similarities together weigh less than one vote.
        weight = np.where(voters, 1 + (np.where(voters, closeness, 0) + 1) / (2 * count + 2), 0)
        votes = np.zeros((len(similar), len(present)))
        np.add.at(votes, (np.arange(len(similar))[:, None], positions[nearest]), weight)
        said[part] = np.where(voters.any(axis=1), present[votes.argmax(axis=1)], -1)
    return said
