"""What a change model says of labelled pairs, counted pixel by pixel as prediction would give them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.data.bands import load_bands
from regraft.data.change_labels import IGNORED, read_label
from regraft.evaluation.change import count
from regraft.inference.change.predictor import segment_with, whole_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from regraft.data.bands import BandScale
    from regraft.data.change_labels import LabelCoding
    from regraft.data.pairs import Pair
    from regraft.evaluation.change import PixelCounts
    from regraft.models.change.net import ChangeNet
    from regraft.recipes.listen import Clock, Listener


@dataclass(frozen=True)
class Measured:
    """The pixels of some pairs.

    Attributes:
        pairs: which.
        counts: of each.
    """

    pairs: tuple[Pair, ...]
    counts: tuple[PixelCounts, ...]


def teller(net: ChangeNet, scale: BandScale, tile: int) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]]:
    """Two dates (H, W, C) -> probabilities (K, H, W), by a network in eval mode."""
    return partial(whole_pair, segment=partial(segment_with, net, scale), tile=tile)


def look(pair: Pair, coding: LabelCoding, max_pixels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]:
    """Both dates (H, W, C) and the mask (H, W), 255 where it or either date knows nothing."""
    assert pair.label is not None
    before, after = (load_bands(path, max_pixels=max_pixels) for path in (pair.before, pair.after))
    label = read_label(pair.label, coding, max_pixels=max_pixels)
    for date in (before, after):
        if date.valid is not None:
            label[~date.valid] = IGNORED
    return before.values, after.values, label


def measure_pairs(
    tell: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]],
    pairs: Sequence[Pair],
    coding: LabelCoding,
    max_pixels: int,
    clock: Clock,
    listener: Listener,
) -> Measured:
    """Count the pixels of pairs.

    Args:
        tell: from `teller`, or a predictor's `predict`.
        pairs: with labels.
        coding: of the labels.
        max_pixels: larger images are refused.
        clock: counts the time.
        listener: is told how far it is.

    Raises:
        ImageRejected: a file cannot be read (any more).
    """
    counts = []
    with clock.phase("inference"):
        for number, pair in enumerate(pairs):
            before, after, label = look(pair, coding, max_pixels)
            counts.append(count(tell(before, after), label))
            listener.progress(number + 1, len(pairs))
    return Measured(tuple(pairs), tuple(counts))
