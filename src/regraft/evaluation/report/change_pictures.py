"""Pictures of changes: two dates, what changed in truth, and where a prediction is right, false or blind."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from regraft.evaluation.change import IGNORED
from regraft.evaluation.report.lettering import write_line
from regraft.evaluation.report.pictures import Picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Colour = tuple[int, int, int]
    Shown = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None, str]

# Vermilion, sky blue and purple of Okabe and Ito's palette, which colour-blind people tell apart; white and black too.
UNCHANGED, FOUND, FALSE, MISSED, OTHER = (0, 0, 0), (255, 255, 255), (213, 94, 0), (86, 180, 233), (204, 121, 167)
GREY = (128, 128, 128)  # ignored, or without a value
# of the classes from 1 on, where there is more than one kind of change
KINDS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
STRETCH = (2.0, 98.0)  # percentiles that become black and white
TILE = 176
_GAP, _CAPTION, _TEXT, _TITLE = 12, 24, 14, 20  # pixels
_PAPER, _BEHIND = (255, 255, 255), (236, 238, 239)
_LONGEST = 320  # pixels of the longer side of a picture in the page
_QUALITY = 80
_DATES = ("before", "after", "change")
_SHADES = 3  # bands of a colour picture


def picture_limits(*values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """What becomes black and white: the 2nd and 98th percentile of each band, over all arrays together.

    Give both dates of a pair: each stretched by itself, they would differ where the ground does not.

    Args:
        values: arrays (H, W, C) of the same bands.
        valid: (H, W) pixels that have a value; all that are finite where None.

    Returns:
        Array of shape (bands, 2): the first three bands, or the first one of fewer than three.
    """
    limits = []
    for band in range(_bands(values[0])):
        pixels = [one[..., band] if valid is None else one[..., band][valid] for one in values]
        flat = np.concatenate([one.ravel() for one in pixels]).astype(np.float64)
        flat = flat[np.isfinite(flat)]
        limits.append(np.percentile(flat, STRETCH) if flat.size else np.array([0.0, 1.0]))
    return np.array(limits)


def to_picture(
    values: NDArray[Any], valid: NDArray[np.bool_] | None = None, limits: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """An image of any bands and numbers as one to look at.

    Three bands of 8 bits stay as they are, unless limits are given. Else the first three bands, or the first one of
    fewer as grey, are stretched between their limits. Pixels without a value are grey.

    Args:
        values: (H, W, C).
        valid: (H, W) pixels that have a value; all where None.
        limits: as `picture_limits` gives them; those of `values` where None.

    Returns:
        Array of shape (H, W, 3).
    """
    bands = _bands(values)
    known = np.ones(values.shape[:2], bool) if valid is None else valid
    if limits is None and values.dtype == np.uint8 and values.shape[-1] == _SHADES:
        shown = values.copy()
    else:
        low, high = (picture_limits(values, valid=valid) if limits is None else limits).T
        chosen = values[..., :bands].astype(np.float64)
        known = known & np.isfinite(chosen).all(axis=-1)
        span = np.where(high > low, high - low, 1.0)
        scaled = np.clip((np.where(known[..., None], chosen, low) - low) / span, 0, 1) * 255
        shown = np.broadcast_to(np.rint(scaled).astype(np.uint8), (*values.shape[:2], 3)).copy()
    shown[~known] = GREY
    return shown


def errors_picture(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A prediction in the colours of its errors.

    Black where nothing changed and nothing is said, white where a change was found, vermilion where one is said but
    none is, sky blue where one was missed, purple where another kind of change is said; ignored pixels are grey.

    Args:
        truth: (H, W) classes, 255 ignored.
        predicted: (H, W) classes.

    Returns:
        Array of shape (H, W, 3).
    """
    shown = np.full((*truth.shape, 3), UNCHANGED, np.uint8)
    is_change, said = truth > 0, predicted > 0
    shown[is_change & (truth == predicted)] = FOUND
    shown[is_change & said & (truth != predicted)] = OTHER
    shown[~is_change & said] = FALSE
    shown[is_change & ~said] = MISSED
    shown[truth == IGNORED] = GREY
    return shown


def label_picture(label: NDArray[np.uint8], classes: int = 2) -> NDArray[np.uint8]:
    """A label as (H, W, 3): black, and white or, of more than two classes, a colour a class; ignored pixels grey."""
    table = np.zeros((256, 3), np.uint8)
    table[1:] = FOUND if classes <= 2 else [KINDS[k % len(KINDS)] for k in range(255)]  # noqa: PLR2004
    table[IGNORED] = GREY
    shown: NDArray[np.uint8] = table[label]
    return shown


def embedded(pixels: NDArray[np.uint8], *, photo: bool) -> Picture:
    """An array (H, W, 3) as a data URI, its longer side at most 320 pixels: JPEG for photos, PNG for masks."""
    image = Image.fromarray(pixels)
    scale = min(1.0, _LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC if photo else Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if photo else "PNG", **({"quality": _QUALITY} if photo else {"optimize": True}))
    kind, encoded = "jpeg" if photo else "png", base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{encoded}", *size)


def pairs_picture(
    pairs: Iterable[Shown], columns: int | None = None, *, title: str = "", tile: int = TILE, classes: int = 2
) -> Image.Image:
    """Draw pairs as a grid: before, after and, where any pair has a label, the change, with the name beneath.

    Args:
        pairs: before (H, W, 3), after (H, W, 3), label (H, W) or None, and name.
        columns: pairs in a row; as many as fit a wide screen where None.
        title: a line above the grid.
        tile: side of one image, pixels.
        classes: of the labels.

    Returns:
        An RGB image, no larger than it must be, also for no pairs at all.
    """
    shown = list(pairs)
    labelled = any(label is not None for _, _, label, _ in shown)
    wide = (3 if labelled else 2) * (tile + _GAP // 3) - _GAP // 3
    across = max(1, min(columns or (2 if len(shown) > 3 else 1), len(shown)))  # noqa: PLR2004
    down = math.ceil(len(shown) / across)
    top = _GAP + (_TITLE + _GAP if title else 0)
    high = tile + 2 * _CAPTION
    page = Image.new("RGB", (_GAP + across * (wide + 2 * _GAP) - _GAP, top + down * (high + _GAP)), _PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        write_line(draw, (_GAP, _GAP), title, _TITLE - 2, page.width - 2 * _GAP)
    for position, (before, after, label, name) in enumerate(shown):
        row, column = divmod(position, across)
        left, upper = _GAP + column * (wide + 2 * _GAP), top + row * (high + _GAP)
        masks = [] if not labelled else [None if label is None else label_picture(label, classes)]
        for number, pixels in enumerate([before, after, *masks]):
            x = left + number * (tile + _GAP // 3)
            word = _DATES[number] if pixels is not None else "no label"
            write_line(draw, (x, upper), word, _TEXT - 2, tile, ink=GREY)
            page.paste(_in_tile(pixels, tile, photo=number < 2), (x, upper + _CAPTION - 4))  # noqa: PLR2004
        write_line(draw, (left, upper + _CAPTION + tile), name, _TEXT, wide)
    return page


def _in_tile(pixels: NDArray[np.uint8] | None, tile: int, *, photo: bool) -> Image.Image:
    """The whole picture in the middle of a square; small ones are not made larger than twice."""
    canvas = Image.new("RGB", (tile, tile), _BEHIND)
    if pixels is None:
        return canvas
    image = Image.fromarray(pixels)
    scale = min(tile / image.width, tile / image.height, 2.0)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    smooth = Image.Resampling.BICUBIC if photo else Image.Resampling.BOX
    canvas.paste(image.resize(inner, smooth), ((tile - inner[0]) // 2, (tile - inner[1]) // 2))
    return canvas


def _bands(values: NDArray[Any]) -> int:
    return _SHADES if values.shape[-1] >= _SHADES else 1
