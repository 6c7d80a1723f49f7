"""Change pairs as examples: square tiles of two dates and their mask, loaded whole and cut here."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from regraft.data.bands import load_bands
from regraft.data.change_labels import IGNORED, LabelCoding, read_label
from regraft.data.decode import MAX_PIXELS
from regraft.errors import ImageRejected
from regraft.training.batches import EVALUATION, mixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.data.pairs import Pair
    from regraft.training.pair_augment import PairAugment

MEMORY_BYTES = 1_000_000_000
"""Decoded pairs that take no more than this stay in memory."""

_FEW = 4  # decoded pairs that are kept where not all fit


@dataclass(frozen=True, slots=True)
class Tile:
    """A square window of a scene: which pair, and the upper left corner in pixels."""

    pair: int
    top: int
    left: int


def tiles_of(sizes: Sequence[tuple[int, int]], tile: int) -> tuple[Tile, ...]:
    """A grid of tiles without overlap over each scene (height, width), so that every pixel is in exactly one.

    The last ones of a row or column hang over the edge where the scene is no multiple of `tile`.
    """
    return tuple(
        Tile(pair, top, left)
        for pair, (height, width) in enumerate(sizes)
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """A decoded pair.

    Attributes:
        dates: (T=2, H, W, C) uint8 or float32; the second date follows the first.
        label: (H, W) uint8 classes, 255 where ignored, which is also where either date has no data.
    """

    dates: NDArray[Any]
    label: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.label.shape[0], self.label.shape[1]


@dataclass(frozen=True)
class PairSource:
    """Decoded pairs, each the first time it is asked for, and again where it had to go.

    Loading processes that are forked share what is in memory; one that is sent the source begins with nothing.

    Attributes:
        pairs: where the files are.
        coding: of their masks; pairs without mask are ignored all over.
        keep: how many stay decoded.
        max_pixels: larger images are refused.
    """

    pairs: tuple[Pair, ...]
    coding: LabelCoding | None
    keep: int
    max_pixels: int = MAX_PIXELS
    _decoded: OrderedDict[int, Scene] = field(default_factory=OrderedDict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        pairs: Sequence[Pair],
        coding: LabelCoding | None,
        *,
        sizes: Sequence[tuple[int, int]],
        bands: int,
        dtype: str,
        memory: int = MEMORY_BYTES,
        max_pixels: int = MAX_PIXELS,
    ) -> PairSource:
        """Keep all decoded where they fit into `memory` bytes, else a few; sizes, bands and type as surveyed."""
        sample = 1 if dtype == "uint8" else 4
        needed = sum(height * width * (2 * bands * sample + 1) for height, width in sizes)
        return cls(tuple(pairs), coding, len(pairs) if needed <= memory else min(_FEW, len(pairs)), max_pixels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": OrderedDict()}

    def fill(self, threads: int = 4) -> None:
        """Decode all now, where all are kept, so that loading processes find them.

        Raises:
            ImageRejected: a file is gone or has changed.
        """
        if self.keep < len(self.pairs):
            return
        rows = [row for row in range(len(self.pairs)) if row not in self._decoded]
        with ThreadPoolExecutor(threads) as pool:
            for row, scene in zip(rows, pool.map(self._decode, rows), strict=True):
                self._decoded[row] = scene

    def scene(self, row: int) -> Scene:
        """A pair, decoded.

        Raises:
            ImageRejected: a file is gone or has changed since it was surveyed.
        """
        scene = self._decoded.get(row)
        if scene is None:
            scene = self._decoded[row] = self._decode(row)
            if len(self._decoded) > self.keep:
                self._decoded.popitem(last=False)
        else:
            self._decoded.move_to_end(row)
        return scene

    def _decode(self, row: int) -> Scene:
        pair = self.pairs[row]
        before, after = (load_bands(path, max_pixels=self.max_pixels) for path in (pair.before, pair.after))
        if after.values.shape != before.values.shape or after.values.dtype != before.values.dtype:
            raise ImageRejected(pair.after, f"differs from {pair.before} in size, bands or type")
        size = before.values.shape[:2]
        if pair.label is None or self.coding is None:
            label = np.full(size, IGNORED, np.uint8)
        else:
            label = read_label(pair.label, self.coding, max_pixels=self.max_pixels)
            if label.shape != size:
                raise ImageRejected(pair.label, f"differs from {pair.before} in size")
        for bands in (before, after):
            if bands.valid is not None:
                label[~bands.valid] = IGNORED
        dates = np.stack([before.values, after.values])
        return Scene(dates if dates.dtype == np.uint8 else dates.astype(np.float32), label)


@dataclass(frozen=True)
class PairExamples:
    """Tiles of pairs, augmented anew each epoch.

    Attributes:
        source: of the scenes.
        tiles: which windows; see `tiles_of`.
        size: side of a tile, pixels.
        augment: or None to take the tiles as they are, as evaluation always does.
        seed: of the augmentation.
    """

    source: PairSource
    tiles: tuple[Tile, ...]
    size: int
    augment: PairAugment | None
    seed: int

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) zeros: the masks are loaded with the tiles."""
        return np.zeros(len(self), np.int64)

    def plain(self) -> PairExamples:
        """The same without augmentation."""
        return replace(self, augment=None)

    def load(self, row: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Both dates (T=2, C, S, S), uint8 or float32, channels last in memory, and the mask (S, S) uint8.

        The values are as in the files; 255 in the mask is ignored. What lies beyond the scene is 0 and ignored.

        Raises:
            ImageRejected: a file had to be decoded again and is gone or has changed.
        """
        tile = self.tiles[row]
        scene = self.source.scene(tile.pair)
        if self.augment is None or epoch == EVALUATION:
            dates, label = window(scene, tile.top, tile.left, self.size)
            dates, label = np.ascontiguousarray(dates), np.ascontiguousarray(label)
        else:
            dates, label = self.augment(scene, tile.top, tile.left, self.size, mixed(self.seed, epoch, row))
        return torch.from_numpy(dates).permute(0, 3, 1, 2), torch.from_numpy(label)


def window(scene: Scene, top: int, left: int, side: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Dates (2, side, side, C) and mask (side, side) of a window, which may lie partly beyond the scene.

    A window inside is a view, not a copy.
    """
    height, width = scene.size
    first, last = (max(0, top), max(0, left)), (min(height, top + side), min(width, left + side))
    rows, columns = slice(first[0], last[0]), slice(first[1], last[1])
    dates, label = scene.dates[:, rows, columns], scene.label[rows, columns]
    if label.shape == (side, side):
        return dates, label
    wide = np.zeros((2, side, side, scene.dates.shape[-1]), scene.dates.dtype)
    mask = np.full((side, side), IGNORED, np.uint8)
    rows = slice(first[0] - top, first[0] - top + label.shape[0])
    columns = slice(first[1] - left, first[1] - left + label.shape[1])
    wide[:, rows, columns], mask[rows, columns] = dates, label
    return wide, mask
