"""The leaderboard of a comparison, as rows with bars and as a table of strategies by backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.evaluation.report.text import duration

if TYPE_CHECKING:
    from regraft.evaluation.comparison import Leaderboard, Standing

WIDTH, HEIGHT = 110, 14
OPEN_ROWS = 20
_SHADES = 10
_LEAST_SPAN = 0.02  # of the bars' scale, so that equals do not look worlds apart


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate; positions are in units of the bar's drawing."""

    standing: Standing
    rank: int
    low: float
    high: float
    mean: float
    mark: str
    fit: str
    image_ms: str
    size: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One strategy on one backbone: its mean, or why there is none; `style` shades it."""

    text: str
    style: str
    title: str


@dataclass(frozen=True, slots=True)
class View:
    """What the section shows.

    Attributes:
        board: the comparison.
        shown: rows that are seen at once.
        folded: the others.
        ends: what the ends of the bars' scale stand for.
        backbones: columns of the matrix; none where it would repeat the rows.
        matrix: a strategy and its cells.
        most: splits that the best measured was measured on.
        timed: the time of an image has a say.
    """

    board: Leaderboard
    shown: tuple[Row, ...]
    folded: tuple[Row, ...]
    ends: tuple[float, float]
    backbones: tuple[str, ...]
    matrix: tuple[tuple[str, tuple[Cell, ...]], ...]
    most: int
    timed: bool


def describe(board: Leaderboard | None) -> View | None:
    """The leaderboard as it is drawn, or None where nothing was compared."""
    if board is None:
        return None
    # The scale holds all means and the intervals of all ties; bars of bad candidates leave it on the left.
    lowest = min(*(one.low for one in board.standings if one.tie), *(one.mean for one in board.standings), 1.0)
    highest = max(one.high for one in board.standings)
    lowest = max(0.0, min(lowest, highest - _LEAST_SPAN))
    rows = tuple(_row(one, n + 1, lowest, highest) for n, one in enumerate(board.standings))
    backbones, matrix = _matrix(board)
    most = max(one.splits for one in board.standings)
    timed = not any(np.isnan(one.candidate.image_ms) for one in board.standings)
    return View(board, rows[:OPEN_ROWS], rows[OPEN_ROWS:], (lowest, highest), backbones, matrix, most, timed)


def size_text(size: int) -> str:
    """Bytes in megabytes, as people compare them."""
    return f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004 - three digits


def _row(one: Standing, rank: int, lowest: float, highest: float) -> Row:
    low, high, mean = (
        round(WIDTH * min(1.0, max(0.0, (x - lowest) / (highest - lowest))), 1) for x in (one.low, one.high, one.mean)
    )
    mark = "recommended" if one.recommended else "tie" if one.tie else ""
    own = one.candidate
    return Row(
        one,
        rank,
        low,
        high,
        mean,
        mark,
        duration(own.fit_seconds),
        "–" if np.isnan(own.image_ms) else f"{own.image_ms:.3g}",
        size_text(own.size),
    )


def _matrix(board: Leaderboard) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[Cell, ...]], ...]]:
    """Means by strategy (rows, the best first) and backbone (columns, the fastest first)."""
    there = {(one.candidate.strategy, one.candidate.backbone): one for one in board.standings}
    strategies = tuple(dict.fromkeys(strategy for strategy, _ in there))
    fastest = sorted(board.standings, key=lambda one: one.candidate.image_ms)
    backbones = tuple(dict.fromkeys(one.candidate.backbone for one in fastest))
    if min(len(strategies), len(backbones)) < 2:  # noqa: PLR2004 - one row or column is the list once more
        return (), ()
    means = [one.mean for one in board.standings]
    least, most = min(means), max(means)

    def cell(strategy: str, backbone: str) -> Cell:
        one, name = there.get((strategy, backbone)), f"{strategy} on {backbone}"
        if one is None:
            reason = board.failed.get(name) or ("did not fit in the budget" if name in board.missed else "")
            return Cell("–", "z", f"{name}: {reason}" if reason else name)
        shade = int(np.ceil(_SHADES * (one.mean - least) / max(most - least, _LEAST_SPAN)))
        style = f"d s{max(1, shade)}" + (" chosen" if one.recommended else "")
        told = "recommended" if one.recommended else "not told apart from the best" if one.tie else "worse"
        return Cell(f"{one.mean:.3f}", style, f"{name}: {one.low:.3f} to {one.high:.3f}, {told}")

    rows = tuple((strategy, tuple(cell(strategy, backbone) for backbone in backbones)) for strategy in strategies)
    return backbones, rows
