"""Rows that name files, as tables and lists hold them, become items, each file once."""

# Paths are plain texts here: they come by the hundred thousand, and links stay unresolved.
# ruff: noqa: PTH100, PTH113, PTH118

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.data.manifest import Item, Skipped
from regraft.errors import DataError, SplitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table or list.

    Attributes:
        item: the image as the row describes it, with its absolute path.
        where: the row, for messages, such as "labels.csv, line 7".
        found: whether the file is there.
        extra: cells of further columns that somebody asked for, in that order.
    """

    item: Item
    where: str
    found: bool
    extra: tuple[str, ...] = ()


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path, with `..` taken out and symbolic links left as they are."""
    return os.path.abspath(path)


def locate(base: str, value: str, endings: Sequence[str] = ()) -> tuple[str, bool]:
    """Find the file that a cell means.

    Tried in this order: the value as it stands, without the blanks around it, with backslashes read as
    slashes (a table from Windows), and with each of `endings` added (a table of ids).

    Args:
        base: the folder that relative values start from.
        value: the cell.
        endings: file endings that may be missing in the cell.

    Returns:
        The absolute path, and whether there is a file. Without one it is the first path tried.
    """
    values = list(dict.fromkeys((value, value.strip(), value.strip().replace("\\", "/"))))
    first = os.path.abspath(os.path.join(base, values[0]))
    for candidate in [*values, *(values[-1] + ending for ending in endings)]:
        path = os.path.abspath(os.path.join(base, candidate))
        if os.path.isfile(path):
            return path, True
    return first, False


def written_path(path: str, folder: str) -> str:
    """How a table or list in `folder` names the file: relative when the file lies below, else absolute."""
    below = os.path.join(os.path.abspath(folder), "")
    return path[len(below) :].replace(os.sep, "/") if path.startswith(below) else path


def items_of(rows: Iterable[Row], *, source: str, remedy: str) -> tuple[list[Item], list[Skipped]]:
    """The items of `once(rows)`, and the rows left out."""
    kept, skipped = once(rows, source=source, remedy=remedy)
    return [row.item for row in kept], skipped


def once(rows: Iterable[Row], *, source: str, remedy: str) -> tuple[list[Row], list[Skipped]]:
    """The rows in the order given, each file once.

    Rows whose file is not there stay items as long as any file is: whoever reads the images counts them
    among those that cannot be read, so that they do not go missing unnoticed.

    Args:
        rows: what the table or list says.
        source: the table or list, for messages.
        remedy: a sentence that says what to do when none of the files is there.

    Raises:
        DataError: no file is there at all, or one that is there is listed with two labels, groups or cells of
            further columns.
        SplitError: one file is listed in two splits.
    """
    kept: dict[str, Row] = {}
    skipped: list[Skipped] = []
    for row in rows:
        name = os.path.normcase(row.item.path)
        if name in kept:
            if row.found:
                _check_same(kept[name], row)
            skipped.append(Skipped(row.item.path, f"listed twice ({row.where})"))
        else:
            kept[name] = row
    if kept and not any(row.found for row in kept.values()):
        first = next(iter(kept.values())).item.path
        raise DataError(
            f"No file that {source} names is there ({len(kept)} missing). The first looked for was {first}. {remedy}"
        )
    return list(kept.values()), skipped


def _check_same(first: Row, again: Row) -> None:
    """Refuse a second row for a file that says something else than the first."""
    for what, one, two in (
        ("label", first.item.label, again.item.label),
        ("split", first.item.split, again.item.split),
        ("group", first.item.group, again.item.group),
        ("label", first.extra, again.extra),
    ):
        if one == two:
            continue
        texts = [_told(value) for value in (one, two)]
        error = SplitError if what == "split" else DataError
        raise error(
            f"{first.item.path} is listed with two {what}s: {texts[0]} ({first.where}) and {texts[1]}"
            f" ({again.where}). Keep one of the two rows."
        )


def _told(value: str | tuple[str, ...] | None) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else " | ".join(map(repr, value))
