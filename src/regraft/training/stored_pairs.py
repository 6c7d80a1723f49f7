"""Learning from a frozen backbone's differences, which are computed once and kept in the store."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from regraft.features.store import Store
from regraft.training.batches import EVALUATION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.features.store import Rows
    from regraft.features.table import FeatureSpace
    from regraft.models.change.difference import LinearDifference
    from regraft.models.change.net import ChangeNet
    from regraft.training.engine import Engine
    from regraft.training.pairs import PairExamples

_BATCH = 8


class OnStored(nn.Module):
    """The head of a `ChangeNet` on differences as the store holds them: (B, M) -> logits (B, K, S, S).

    Attributes:
        head: the network's own.
    """

    def __init__(self, head: LinearDifference, shapes: Sequence[tuple[int, ...]], tile: int) -> None:
        super().__init__()
        self.head = head
        self._shapes, self._tile = tuple(shapes), tile

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of all maps one after the other."""
        parts = torch.split(rows, [math.prod(shape) for shape in self._shapes], dim=1)
        maps = [part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]
        logits: Tensor = self.head.forward_stored(maps, (self._tile, self._tile))
        return logits


@dataclass(frozen=True)
class StoredPairs:
    """Tiles by their stored differences.

    Attributes:
        rows: of the store.
        examples: where the masks come from.
    """

    rows: Rows
    examples: PairExamples

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) zeros: the masks are loaded with the rows."""
        return self.examples.targets

    def __len__(self) -> int:
        return len(self.examples)

    def load(self, row: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Differences (M,) float32 and the mask (S, S)."""
        del epoch
        _, label = self.examples.load(row, EVALUATION)
        return torch.from_numpy(self.rows.row(row)), label


def stored_pairs(
    net: ChangeNet,
    examples: PairExamples,
    keys: Sequence[str],
    prepare: Callable[[Tensor], Tensor],
    space: FeatureSpace,
    cache: Path,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> tuple[StoredPairs, tuple[tuple[int, ...], ...]]:
    """The differences of all tiles, those that the store lacks computed now, and the shape of each map.

    Args:
        net: with a `LinearDifference` as its head; its backbone is run in eval mode.
        examples: the tiles.
        keys: a hash of each pair's files, by number of the pair.
        prepare: pairs as they are loaded -> what the network takes.
        space: whatever decides the values, besides the tiles.
        cache: the cache folder.
        engine: where it runs.
        progress: tiles done, and in all.
    """
    store = Store.open(cache, space)
    names = [_key(keys[tile.pair], tile.top, tile.left) for tile in examples.tiles]
    lacking = store.missing(names)
    todo = [row for row, name in enumerate(names) if name in lacking]
    net.eval()
    shapes = tuple(tuple(one.shape[1:]) for one in _differences(net, examples, [0], prepare, engine))
    for begin in range(0, len(todo), _BATCH):
        rows = todo[begin : begin + _BATCH]
        found = _differences(net, examples, rows, prepare, engine)
        flat = torch.cat([one.flatten(1) for one in found], 1).cpu().numpy()
        store.append([names[row] for row in rows], flat, {})
        progress(begin + len(rows), len(todo))
    store.compact()
    return StoredPairs(store.rows(names), examples), shapes


def _differences(
    net: ChangeNet,
    examples: PairExamples,
    rows: Sequence[int],
    prepare: Callable[[Tensor], Tensor],
    engine: Engine,
) -> list[Tensor]:
    inputs = prepare(torch.stack([examples.load(row, EVALUATION)[0] for row in rows]).to(engine.device))
    with torch.inference_mode():
        return [one.float() for one in net.differences(inputs)]


def _key(pair: str, top: int, left: int) -> str:
    """A hash of a tile: its pair's files, and where it lies."""
    return hashlib.sha256(f"{pair} {top} {left}".encode()).hexdigest()
