"""Pictures of a labelled batch: a grid for a PNG file, and coloured half blocks for a terminal."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from regraft.evaluation.report.lettering import write_line
from regraft.evaluation.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

TILE = 176
_GAP, _CAPTION, _TEXT, _TITLE = 12, 24, 14, 20  # pixels
_PAPER, _BEHIND = (255, 255, 255), (236, 238, 239)
_MOST_COLUMNS = 8
_NO_LABEL = "no label"


def batch_picture(
    images: Iterable[tuple[Image.Image, str | None]],
    *,
    columns: int | None = None,
    title: str = "",
    tile: int = TILE,
) -> Image.Image:
    r"""Draw labelled images as a grid, each whole inside its tile, with its label beneath.

    Letters that no font on this machine has are written out, as in `\u732b`.

    Args:
        images: decoded images of any size with their labels.
        columns: tiles in a row; about as many rows as columns where None.
        title: a line above the grid.
        tile: side of a tile, pixels.

    Returns:
        An RGB image; no larger than it must be, also for no images at all.
    """
    tiles = list(images)
    across = max(1, min(columns or _columns_for(len(tiles)), len(tiles)))
    down = math.ceil(len(tiles) / across)
    top = _GAP + (_TITLE + _GAP if title else 0)
    size = (_GAP + across * (tile + _GAP), top + down * (tile + _CAPTION + _GAP))
    page = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        write_line(draw, (_GAP, _GAP), title, _TITLE - 2, size[0] - 2 * _GAP)
    for position, (image, label) in enumerate(tiles):
        row, column = divmod(position, across)
        left, upper = _GAP + column * (tile + _GAP), top + row * (tile + _CAPTION + _GAP)
        page.paste(_in_tile(image, (tile, tile), _BEHIND), (left, upper))
        write_line(draw, (left, upper + tile + 3), _NO_LABEL if label is None else label, _TEXT, tile)
    return page


def terminal_picture(image: Image.Image, width: int) -> str:
    """An image as text for a terminal with 24-bit colour: each character shows two pixels, one above the other.

    Args:
        image: of any size.
        width: in characters.

    Returns:
        Lines with ANSI colour codes, reset at the end of each; no trailing newline.
    """
    height = max(2, round(image.height * width / image.width / 2) * 2)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return "\n".join(_half_blocks(small, row) for row in range(0, height, 2))


def terminal_batch(images: Iterable[tuple[Image.Image, str | None]], *, width: int = 80, columns: int = 4) -> str:
    """Labelled images as text for a terminal with 24-bit colour: a grid with each label beneath its tile.

    Args:
        images: decoded images of any size with their labels.
        width: of the whole, in characters.
        columns: tiles in a row.
    """
    tiles = list(images)
    across = max(1, min(columns, len(tiles)))
    tile = max(2, (width - across + 1) // across)
    lines = []
    for start in range(0, len(tiles), across):
        row = tiles[start : start + across]
        # a character is about twice as high as wide, so a square tile has half as many lines as characters
        pictures = [_in_tile(image, (tile, tile // 2 * 2), (0, 0, 0)) for image, _ in row]
        lines += [" ".join(_half_blocks(p, y) for p in pictures) for y in range(0, tile // 2 * 2, 2)]
        lines.append(" ".join(_padded(_NO_LABEL if label is None else label, tile) for _, label in row).rstrip())
    return "\n".join(lines)


def _columns_for(count: int) -> int:
    """A little more columns than rows, with as few empty places in the last row as can be."""
    about = min(_MOST_COLUMNS - 1, math.ceil(math.sqrt(count * 1.4)))
    return min((about, about - 1, about + 1), key=lambda columns: -count % max(1, columns))


def _in_tile(image: Image.Image, size: tuple[int, int], behind: tuple[int, int, int]) -> Image.Image:
    """The whole image in the middle of a tile; small images are not made larger than twice."""
    scale = min(size[0] / image.width, size[1] / image.height, 2.0)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(inner, Image.Resampling.BICUBIC, reducing_gap=2.0)
    canvas = Image.new("RGB", size, behind)
    canvas.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return canvas


def _half_blocks(image: Image.Image, row: int) -> str:
    """Pixel rows `row` and `row + 1` as upper half blocks on a coloured ground."""
    text, before = [], None
    above, below = np.asarray(image)[row : row + 2].tolist()
    for colours in zip(above, below, strict=True):
        if colours != before:
            ground = ";".join(map(str, colours[1]))
            text.append(f"\x1b[38;2;{';'.join(map(str, colours[0]))};48;2;{ground}m")
            before = colours
        text.append("▀")
    return "".join(text) + "\x1b[0m"


def _cells(letter: str) -> int:
    """How many characters wide a terminal shows a letter."""
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _padded(label: str, width: int) -> str:
    """The label in exactly `width` terminal characters, cut with an ellipsis where it is longer."""
    shown, used = "", 0
    text = printable(label).replace("\n", " ").replace("\t", " ")
    whole = sum(map(_cells, text)) <= width
    for letter in text:
        if used + _cells(letter) > (width if whole else width - 1):
            break
        shown, used = shown + letter, used + _cells(letter)
    return shown + ("" if whole else "…") + " " * (width - used - (not whole))
