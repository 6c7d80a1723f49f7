"""Do two small pictures show the same photograph? Laid over each other as well as may be, then compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]  # (P, S, S)
    Placements = NDArray[np.float32]  # (P, 4): scale and shift of rows, scale and shift of columns; a side is 2 long

# Shrunk by, steps, correlation below which a pair is given up: from coarse to fine.
_LEVELS = ((4, 8, 0.4), (2, 6, 0.25), (1, 4, 0.85))
_LARGEST_STEP, _LARGEST_SHIFT, _SCALES = 0.1, 0.15, (0.85, 1.18)
_BLOCK = 8  # pixels
_FLAT = 9.0  # squared grey levels: what JPEG does to a plain surface must not look like a difference
_TELLING = 32.0  # squared grey levels, of both: a block with less is plain
_FINE = 4  # pixels: half the width of the mean that is taken off before the details are compared
_MIN_OVERLAP = 0.5
_OTHER_COLOUR, _MOTLEY = 16.0, 0.5  # levels; levels for each level of the chroma's own deviation


@dataclass(frozen=True, slots=True)
class Sketches:
    """Small pictures of N images, squeezed to a square whatever their shape.

    Attributes:
        grey: (N, S, S) uint8 luma, S divisible by 8.
        colour: (N, T, T, 2) uint8 chroma (Cb, Cr).
    """

    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.grey)

    def take(self, rows: NDArray[np.int64]) -> Sketches:
        """Some of them, by position."""
        return Sketches(self.grey[rows], self.colour[rows])


def likeness(first: Sketches, second: Sketches) -> NDArray[np.float32]:
    """How far the details of P pairs of pictures agree once aligned, where they agree least: 1 for the same.

    Shift and scale along both axes are found by Gauss-Newton steps from coarse to fine (Lucas and Kanade, 1981;
    Baker and Matthews, 2004), so that a picture is found in a cropped copy of itself. Then a local mean is taken off
    both, so that light and large shapes, which many pictures share, count for nothing. What is left is compared block
    by block, and the tenth of the blocks that agree least decides: two wallets on white share their outlines only.

    Returns:
        (P,), at most 1; 0 where a pair did not look promising at a coarser level or where colours differ.
    """
    result = np.zeros(len(first), np.float32)
    rows = np.arange(len(first))
    place = _first_guess(_shrink(first.grey, _LEVELS[0][0]), _shrink(second.grey, _LEVELS[0][0]))
    for shrunk, steps, promising in _LEVELS:
        if not len(rows):
            return result
        a, b = _shrink(first.grey[rows], shrunk), _shrink(second.grey[rows], shrunk)
        for _ in range(steps):
            place = _improved(a, b, place)
        moved, inside = _moved(a, place)
        kept = (_correlation(moved, b, inside) >= promising) & (inside.mean((1, 2)) >= _MIN_OVERLAP)
        rows, place, moved, b, inside = rows[kept], place[kept], moved[kept], b[kept], inside[kept]
    same = _same_colours(first.colour[rows], second.colour[rows], place)
    result[rows] = np.where(same, _least_agreement(_details(_soft(moved)), _details(_soft(b)), inside), 0)
    return result


def _first_guess(first: Pictures, second: Pictures) -> Placements:
    """For each pair the best of nine placements: as it is, or either cropped by a twentieth at one of its corners.

    From the first alone, the steps lose their way in fine textures, where an offset of a pixel turns light to dark.
    """
    guesses = np.array(
        [(1, 0, 1, 0)]
        + [
            (scale, down, scale, across) for scale in (0.95, 1.05) for down in (-0.05, 0.05) for across in (-0.05, 0.05)
        ],
        np.float32,
    )
    agreement = []
    for guess in guesses:
        moved, inside = _moved(first, np.tile(guess, (len(first), 1)))
        agreement.append(_correlation(moved, second, inside))
    best: Placements = guesses[np.stack(agreement).argmax(axis=0)]
    return best


def _correlation(first: Pictures, second: Pictures, inside: Pictures) -> NDArray[Any]:
    """Of the pixels inside."""
    a, b = _centred(first, inside), _centred(second, inside)
    result: NDArray[Any] = (a * b).sum((1, 2)) / np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)) + 1e-6)
    return result


def _least_agreement(first: Pictures, second: Pictures, inside: Pictures) -> NDArray[Any]:
    """The tenth percentile, over blocks that hold details, of 2 <a, b> / (<a, a> + <b, b> + what JPEG may do).

    Unlike a correlation it is 1 only where details agree in strength, too. No block with details gives 0.
    """
    a, b = first * inside, second * inside
    pixels = _blocks(inside)
    energy = _blocks(a * a) + _blocks(b * b)
    agreement = 2 * _blocks(a * b) / (energy + _FLAT * pixels + 1e-6)
    telling = (energy > _TELLING * pixels) & (pixels >= _BLOCK * _BLOCK / 2)
    counts = telling.sum(1)
    order = np.sort(np.where(telling, agreement, np.inf), axis=1)
    tenth = order[np.arange(len(order)), (0.1 * np.maximum(counts - 1, 0)).round().astype(np.int64)]
    result: NDArray[Any] = np.where(counts > 0, tenth, 0)
    return result


def _blocks(pictures: Pictures) -> NDArray[np.float32]:
    """Sums over blocks of 8 x 8 pixels, (P, blocks)."""
    pairs, across = len(pictures), pictures.shape[1] // _BLOCK
    sums: NDArray[np.float32] = pictures.reshape(pairs, across, _BLOCK, across, _BLOCK).sum((2, 4))
    return sums.reshape(pairs, across * across)


def _same_colours(first: NDArray[np.uint8], second: NDArray[np.uint8], place: Placements) -> NDArray[np.bool_]:
    """Whether chroma is alike in the tenth of the area where it differs most; motley pictures may differ more."""
    gap: Pictures = np.zeros(first.shape[:3], np.float32)
    inside, motley = gap, np.zeros(len(first), np.float32)
    for channel in range(first.shape[3]):
        moved, inside = _moved(first[..., channel].astype(np.float32), place)
        gap = gap + np.square(moved - second[..., channel])
        motley += second[..., channel].var((1, 2), dtype=np.float32)
    cells = np.sort((gap * inside).reshape(len(gap), first.shape[1] * first.shape[2]), axis=1)
    worst = np.sqrt(cells[:, -(cells.shape[1] // 10) :].mean(1))
    same: NDArray[np.bool_] = worst <= _OTHER_COLOUR + _MOTLEY * np.sqrt(motley)
    return same


def _shrink(pictures: NDArray[np.uint8], by: int) -> Pictures:
    side = pictures.shape[1] // by
    means: Pictures = pictures.reshape(-1, side, by, side, by).mean((2, 4), dtype=np.float32)
    return means


def _moved(pictures: Pictures, place: Placements) -> tuple[Pictures, Pictures]:
    """The pictures as seen from their placements, bilinear, and 1 where there is something to see, else 0."""
    side = pictures.shape[1]
    centres = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    edge = 1 - 1 / side
    moved, seen = pictures, []
    for scale, shift in ((place[:, 2:3], place[:, 3:4]), (place[:, 0:1], place[:, 1:2])):  # columns, then rows
        wanted = scale * centres + shift
        seen.append(np.abs(wanted) <= edge + 1e-6)
        at = np.clip(wanted * (side / 2) + (side - 1) / 2, 0, side - 1)
        low = np.minimum(at.astype(np.int64), side - 2)
        share = (at - low)[:, :, None]
        turned = moved.transpose(0, 2, 1)
        lines = np.arange(len(pictures))[:, None]
        moved = turned[lines, low] * (1 - share) + turned[lines, low + 1] * share
    inside = (seen[1][:, :, None] & seen[0][:, None, :]).astype(np.float32)
    return moved, inside


def _improved(first: Pictures, second: Pictures, place: Placements) -> Placements:
    """One Gauss-Newton step towards the placement at which `first` explains `second`, up to contrast and light."""
    pairs, side = len(first), first.shape[1]
    moved, inside = _moved(first, place)
    centred, target = _centred(moved, inside), _centred(second, inside)
    contrast = (centred * target).sum((1, 2)) / ((centred * centred).sum((1, 2)) + 1e-3)
    contrast = np.clip(contrast, 0.3, 3)[:, None, None]
    residual = (target - contrast * centred).reshape(pairs, -1, 1)
    weight = inside * contrast * (side / 2)
    down, across = np.zeros_like(moved), np.zeros_like(moved)
    down[:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) / 2
    across[:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) / 2
    down *= weight / place[:, 0, None, None]
    across *= weight / place[:, 2, None, None]
    centres = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    slopes = np.stack([down * centres[:, None], down, across * centres, across], -1).reshape(pairs, -1, 4)
    slopes -= inside.reshape(pairs, -1, 1) * (slopes.sum(1, keepdims=True) / _count(inside).reshape(-1, 1, 1))
    turned = slopes.transpose(0, 2, 1)
    normal = turned @ slopes
    damping = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 4 + 1e-3
    step = np.linalg.solve(normal + damping * np.eye(4, dtype=np.float32), turned @ residual)[..., 0]
    better = place + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
    better[:, ::2] = np.clip(better[:, ::2], *_SCALES)
    better[:, 1::2] = np.clip(better[:, 1::2], -_LARGEST_SHIFT, _LARGEST_SHIFT)
    result: Placements = better.astype(np.float32)
    return result


def _details(pictures: Pictures) -> Pictures:
    """The pictures less the mean of the 9 x 9 pixels around each."""
    width = 2 * _FINE + 1
    margin = ((0, 0), (_FINE, _FINE), (_FINE, _FINE))
    sums = np.pad(pictures.astype(np.float64), margin, mode="edge").cumsum(1).cumsum(2)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    means = sums[:, width:, width:] - sums[:, :-width, width:] - sums[:, width:, :-width] + sums[:, :-width, :-width]
    details: Pictures = (pictures - means / width**2).astype(np.float32)
    return details


def _soft(pictures: Pictures) -> Pictures:
    """Softened by (1, 2, 1) / 4 along both axes: one picture was interpolated and the other was not."""
    for axis in (1, 2):
        margin = tuple((1, 1) if n == axis else (0, 0) for n in range(3))
        wide = np.pad(pictures, margin, mode="edge")
        first, last = (np.take(wide, np.arange(n, n + pictures.shape[axis]), axis) for n in (0, 2))
        pictures = ((first + last + 2 * pictures) / 4).astype(np.float32)
    return pictures


def _centred(pictures: Pictures, inside: Pictures) -> Pictures:
    means = (pictures * inside).sum((1, 2)) / _count(inside)
    centred: Pictures = (pictures - means[:, None, None]) * inside
    return centred


def _count(inside: Pictures) -> NDArray[np.float32]:
    counts: NDArray[np.float32] = np.maximum(inside.sum((1, 2)), 1)
    return counts
