"""`regraft compare`."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from regraft.cli import terminal
from regraft.recipes.compare import compare as run_comparison

if TYPE_CHECKING:
    from regraft.evaluation.comparison import Leaderboard, Standing

_PAGE, _ROWS = 100, 20
_COLUMNS = ("mean", "95 % interval", "splits", "p", "loss", "fit", "ms", "MB", "")
_WIDTHS = (5, 14, 6, 5, 6, 7, 5, 4, 2)
_NAMES = _PAGE - sum(_WIDTHS) - len(_WIDTHS)


@terminal.as_verb(run_comparison)
def compare(*args: Any, **options: Any) -> int:
    """See `regraft.compare`."""
    with terminal.listener() as listener:
        run = run_comparison(*args, **options, listener=listener)
    if run.leaderboard is not None:
        for text in table(run.leaderboard):
            terminal.line(text)
    terminal.line(f"run     {run.folder}")
    terminal.line(f"report  {run.report}")
    return 0


def table(board: Leaderboard) -> list[str]:
    """Lines of at most 100 columns; a name that is too long for its column has a line to itself."""
    lines = ["", _line("candidate", _COLUMNS)]
    for one in board.standings[:_ROWS]:
        name, cells = one.candidate.name, _cells(one)
        lines += [_line(name, cells)] if len(name) <= _NAMES else [name, _line("", cells)]
    if len(board.standings) > _ROWS:
        lines.append(f"... and {len(board.standings) - _ROWS} more in leaderboard.csv")
    about = (
        f"{board.metric.replace('_', ' ')} on {board.images:,} training images, {board.splits}; p against the best (the"
        " smaller of metric and log loss),"
        " loss: log loss in nats, fit: seconds of one fold, ms an image, MB of the bundle; ~ tied with the best"
        " in both, = and within one standard error of it, * recommended, - cannot be said"
    )
    said = [
        "",
        about,
        *(f"Failed: {name}: {reason}" for name, reason in board.failed.items()),
        *((f"Did not fit in the budget: {', '.join(board.missed)}",) if board.missed else ()),
        *(f"Note: {note}" for note in board.notes),
        *((f"Nested: {board.optimism.sentence}",) if board.optimism is not None else ()),
        board.sentence,
    ]
    return lines + [text for part in said for text in textwrap.wrap(part, _PAGE, break_on_hyphens=False) or [""]]


def _cells(one: Standing) -> tuple[str, ...]:
    own = one.candidate
    return (
        f"{one.mean:.3f}",
        one.bounds or "-",
        str(one.splits),
        "-" if one.p_least is None else f"{one.p_least:.3f}",
        "-" if one.log_loss is None else f"{one.log_loss:.3f}",
        f"{own.fit_seconds:.2f} s" if own.fit_seconds < 100 else f"{own.fit_seconds:.0f} s",  # noqa: PLR2004
        "-" if math.isnan(own.image_ms) else f"{own.image_ms:.3g}",
        f"{own.size / 1e6:.0f}",
        ("=" if one.close else "~" if one.tie else "") + ("*" if one.recommended else ""),
    )


def _line(name: str, cells: tuple[str, ...]) -> str:
    cells = tuple(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
    return (f"{name:<{_NAMES}}" + "".join(cells)).rstrip()
