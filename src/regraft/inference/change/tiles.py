"""Where tiles lie, and how what they say is blended, one row of tiles at a time.

The blending weight of a tile is the product of one share along each axis. The shares of all tiles that cover a pixel
sum to 1, so blended probabilities are a weighted mean, and need no division afterwards. Away from a tile's middle its
share falls as a raised cosine over the overlap, to almost nothing at its border: what differs from tile to tile
fades instead of jumping.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MIN_TILE, MAX_TILE = 16, 4096
_STEP = 32  # networks halve an image up to five times


@dataclass(frozen=True)
class Plan:
    """Tiles that cover a scene.

    Attributes:
        height: of the scene, in pixels.
        width: of the scene.
        tile: side of a tile.
        overlap: pixels that neighbours share at least, where there are two.
    """

    height: int
    width: int
    tile: int
    overlap: int

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """The first row of each row of tiles."""
        return positions(self.height, self.tile, self.overlap)

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """The first column of each column of tiles."""
        return positions(self.width, self.tile, self.overlap)

    @cached_property
    def down(self) -> NDArray[np.float64]:
        """Shares of the rows of tiles: (rows of tiles, tile)."""
        return shares(self.height, self.tile, self.overlap)

    @cached_property
    def across(self) -> NDArray[np.float64]:
        """Shares of the columns of tiles: (columns of tiles, tile)."""
        return shares(self.width, self.tile, self.overlap)

    @property
    def tiles(self) -> int:
        """How many there are."""
        return len(self.tops) * len(self.lefts)

    def fitted(self) -> Plan:
        """The same with a tile that does not stick out of the scene by more than the last few pixels."""
        tile = min(self.tile, -(-max(self.height, self.width) // _STEP) * _STEP)
        return Plan(self.height, self.width, tile, min(self.overlap, tile // 2) if tile < self.tile else self.overlap)

    def finished(self, row: int) -> tuple[int, int]:
        """First and last row of pixels (the last excluded) that are done with a row of tiles."""
        last = row + 1 == len(self.tops)
        return self.tops[row], self.height if last else self.tops[row + 1]


def plan(height: int, width: int, *, tile: int, overlap: int) -> Plan:
    """Lay tiles over a scene.

    Raises:
        OptionError: the tile is too small or too large, or the overlap not smaller than it.
    """
    if not MIN_TILE <= tile <= MAX_TILE:
        raise OptionError(
            f"tile is {tile}: expected {MIN_TILE} to {MAX_TILE} pixels. The side of the training tiles is best."
        )
    if not 0 <= overlap < tile:
        raise OptionError(
            f"overlap is {overlap}: expected 0 to {tile - 1}, less than the tile. A quarter of it is usual."
        )
    return Plan(height, width, tile, overlap)


def positions(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Where tiles begin along an axis; the last is shifted back to end where the scene does.

    A scene that is shorter than a tile has one tile, which begins at 0 and sticks out.
    """
    last = max(0, length - tile)
    return (*range(0, last, tile - overlap), last)


def window(tile: int, overlap: int) -> NDArray[np.float64]:
    """Blending weights along a tile's side (tile,), in (0, 1]: sin^2 over the overlap at both ends, 1 between.

    Those of two neighbours sum to 1 where the overlap is at most half of the tile. No weight is 0, as at the scene's
    border there is no neighbour.
    """
    ramp = np.ones(tile)
    if overlap:
        ramp[:overlap] = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
    return np.minimum(ramp, ramp[::-1])


def shares(length: int, tile: int, overlap: int) -> NDArray[np.float64]:
    """The window of each tile along an axis, divided by the sum of all windows there: (tiles, tile).

    What sticks out of the scene is 0.
    """
    starts = positions(length, tile, overlap)
    weights = window(tile, overlap)
    total = np.zeros(max(length, tile))
    for start in starts:
        total[start : start + tile] += weights
    found = np.stack([weights / total[start : start + tile] for start in starts])
    found[:, length:] = 0  # of a single tile; the others end within the scene
    return found


def padded(values: NDArray[Any], tile: int) -> NDArray[Any]:
    """A window (h, w, ...) brought to a tile's size (tile, tile, ...) by mirroring at its lower and right border."""
    missing = [(0, tile - values.shape[0]), (0, tile - values.shape[1])]
    if not any(after for _, after in missing):
        return values
    return np.pad(values, [*missing, *[(0, 0)] * (values.ndim - 2)], mode="reflect")


def blend(
    plan: Plan, row: int, answers: Iterable[tuple[int, NDArray[np.float32]]], carried: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add up what a row of tiles says.

    Args:
        plan: where the tiles lie.
        row: number of the row of tiles.
        answers: (number of the column, probabilities (K, tile, tile)) of its tiles, always in the same order.
        carried: (K, h, width), what the rows before said of the first h rows of pixels of this one.

    Returns:
        Blended probabilities of the rows of pixels that no later tile touches (K, h, width), and what the next row
        of tiles is to be given. Sums are in double precision, so that what all tiles agree on stays as it is.
    """
    first, last = plan.finished(row)
    tall, wide = min(plan.tile, plan.height), min(plan.tile, plan.width)
    total = np.zeros((carried.shape[0], tall, plan.width))
    total[:, : carried.shape[1]] = carried
    for column, values in answers:
        weight = plan.down[row][:tall, None] * plan.across[column][None, :wide]
        left = plan.lefts[column]
        total[:, :, left : left + wide] += values[:, :tall, :wide] * weight
    done = last - first
    return total[:, :done], total[:, done:].copy()
