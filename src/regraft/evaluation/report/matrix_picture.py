"""A confusion matrix as a picture, for places where no page can stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from regraft.evaluation.report.lettering import INK, write_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_NAMED = 64  # classes; of more, no name could be read
_MOST_CELLS = 1000  # a side; neighbours of more are added up
_PAPER, _BLANK, _SOFT = (255, 255, 255), (236, 238, 239), (87, 97, 107)
_RIGHT, _WRONG = np.array([0, 102, 170]), np.array([196, 78, 0])
_NAMES = 190  # pixels for a name
_MARGIN, _TITLE = 16, 22
_LEAST_NUMBERED = 15  # pixels of a cell in which a number can be read
_FAINTEST = 0.12
_DARK = 0.55  # shades above take white digits
_DIGIT = 0.62  # width of a digit, as a share of its height


def matrix_picture(confusion: NDArray[np.integer], classes: Sequence[str]) -> Image.Image:
    """Draw a confusion matrix: blue where the answer was right, orange where it was wrong, darker for more of a row.

    Args:
        confusion: (K, K) counts, rows true, columns predicted.
        classes: K names; written where there are at most `MOST_NAMED`.

    Returns:
        An RGB image no wider or higher than about 1,300 pixels.
    """
    count = len(confusion)
    named = count <= MOST_NAMED
    counts = np.asarray(confusion, np.int64)
    if count > _MOST_CELLS:
        starts = np.arange(0, count, -(-count // _MOST_CELLS))
        counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    cell = max(2 if named else 1, min(48, 1060 // max(1, len(counts))))
    edge = (_MARGIN + _NAMES if named else _MARGIN, _MARGIN + _TITLE + (_NAMES if named else 0))
    side = cell * len(counts)
    page = Image.new("RGB", (max(edge[0] + side + _MARGIN, 420), edge[1] + side + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    title = f"{int(counts.trace()):,} of {int(counts.sum()):,} right; rows: true, columns: said"
    write_line(draw, (_MARGIN, 10), title, 16, page.width - 2 * _MARGIN)
    page.paste(_cells(counts, cell), edge)
    if cell >= _LEAST_NUMBERED:
        _write_counts(draw, counts, cell, edge)
    if named:
        _write_names(page, classes, cell, edge)
    return page


def _shades(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How dark each cell is, 0..1: its share of the row, and never so faint that a single image is lost."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * shares, 0.0)


def _cells(counts: NDArray[np.int64], cell: int) -> Image.Image:
    shades = _shades(counts)[..., None]
    right = np.eye(len(counts), dtype=bool)[..., None]
    ground = np.where(shades > 0, np.array(_PAPER), np.array(_BLANK))
    colours = ground * (1 - shades) + np.where(right, _RIGHT, _WRONG) * shades
    pixels = colours.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell > 4:  # noqa: PLR2004 - smaller cells would be all gap
        gaps = np.arange(len(pixels)) % cell == cell - 1
        pixels[gaps] = pixels[:, gaps] = _PAPER
    return Image.fromarray(pixels)


def _write_counts(draw: ImageDraw.ImageDraw, counts: NDArray[np.int64], cell: int, edge: tuple[int, int]) -> None:
    shades = _shades(counts)
    for row, column in np.argwhere(counts > 0).tolist():
        text = str(counts[row, column])
        size = min(18, int(cell * 0.6), int((cell - 2) / (_DIGIT * len(text))))
        if size >= 7:  # noqa: PLR2004 - smaller digits cannot be read
            ink = _PAPER if shades[row, column] > _DARK else INK
            middle = (edge[0] + (column + 0.5) * cell, edge[1] + (row + 0.5) * cell)
            write_line(draw, middle, text, size, cell, ink=ink, anchor="mm")


def _write_names(page: Image.Image, classes: Sequence[str], cell: int, edge: tuple[int, int]) -> None:
    draw, size = ImageDraw.Draw(page), max(10, min(16, int(cell * 0.75)))
    # The names of columns are written as lines, which are then turned to the left.
    across = Image.new("RGB", (_NAMES, cell * len(classes)), _PAPER)
    pen = ImageDraw.Draw(across)
    for i, name in enumerate(classes):
        middle = (i + 0.5) * cell
        write_line(draw, (edge[0] - 8, edge[1] + middle), name, size, _NAMES - 8, ink=_SOFT, anchor="rm")
        write_line(pen, (8, middle), name, size, _NAMES - 8, ink=_SOFT, anchor="lm")
    upright = across.transpose(Image.Transpose.ROTATE_90)
    page.paste(upright, (edge[0], edge[1] - _NAMES))
