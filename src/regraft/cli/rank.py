"""`regraft rank`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from regraft.cli import terminal
from regraft.recipes.rank import rank as run_ranking

if TYPE_CHECKING:
    from regraft.recipes.ranking import RankedBackbone, Ranking

_COLUMNS = ("rank", "log loss", "accuracy", "kNN", "LogME", "H-score", "LEEP", "NCE", "ms", "D", "MB")
_WIDTHS = (8, 8, 8, 5, 6, 7, 6, 6, 5, 5, 5)
_PAGE = 100
_NAMES = _PAGE - sum(_WIDTHS) - len(_WIDTHS)


@terminal.as_verb(run_ranking, short={"output": "-o"})
def rank(*args: Any, **options: Any) -> int:
    """See `regraft.rank`."""
    with terminal.listener() as listener:
        ranking = run_ranking(*args, **options, listener=listener)
    for text in _table(ranking):
        terminal.line(text)
    return 0


def _table(ranking: Ranking) -> list[str]:
    """Lines of at most 100 columns; a name that is too long for its column has a line to itself."""
    lines = ["", _line("backbone", _COLUMNS)]
    for one in ranking.backbones:
        cells = _cells(one)
        lines += [_line(one.name, cells)] if len(one.name) <= _NAMES else [one.name, _line("", cells)]
    said = [f"{name}: {reason}" for name, reason in ranking.failed.items()]
    dash = "; - where there is no source classifier" if any(one.leep is None for one in ranking.backbones) else ""
    about = (
        f"Training part, {ranking.images:,} images, {ranking.classes} classes. Rank by the log loss of a"
        " cross-validated logistic regression, with the ranks that it has in resampled images; accuracy is the same"
        " regression's, kNN that of the 5 nearest other images. LogME, H-score, LEEP and NCE: higher is better"
        f"{dash}. ms: an image in the network. MB: of weights."
    )
    said += ["", about, *(f"Note: {note}." for note in ranking.notes), ranking.sentence]
    return lines + [text for part in said for text in textwrap.wrap(part, _PAGE, break_on_hyphens=False) or [""]]


def _cells(one: RankedBackbone) -> tuple[str, ...]:
    low, high = one.rank_interval
    leep, nce = ("-" if value is None else f"{value:.3f}" for value in (one.leep, one.nce))
    return (
        f"{one.rank} ({low}-{high})" if low != high else f"{one.rank} ({low})",
        f"{one.log_loss:.3f}",
        f"{one.accuracy:.3f}",
        f"{one.knn:.3f}",
        f"{one.logme:.3f}",
        f"{one.h_score:.3f}",
        leep,
        nce,
        f"{1000 * one.seconds:.1f}",
        f"{one.dims}",
        f"{one.size_bytes / 1e6:.0f}",
    )


def _line(name: str, cells: tuple[str, ...]) -> str:
    return f"{name:<{_NAMES}}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
