"""Change pairs from a table: a row for each, with the files of both dates, the mask and the split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.cells import TABLE_ENDINGS, open_table
from regraft.data.pairs import Pair, Pairs
from regraft.data.rows import absolute, locate
from regraft.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("before", "after")
_COLUMNS = (*_NEEDED, "label", "split", "name")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def is_pair_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a table with the columns before and after."""
    name = os.fspath(path)
    if Path(name).suffix.lower() not in TABLE_ENDINGS or not Path(name).is_file():
        return False
    try:
        columns = {column.strip().lower() for column in open_table(name).columns}
    except DataError:
        return False
    return columns.issuperset(_NEEDED)


def read_pair_table(path: str | os.PathLike[str], *, labelled: bool = True) -> Pairs:
    """Read a table of pairs: columns before, after, label, split and name, of which the last three may be absent.

    Args:
        path: the table; relative paths in it start where it lies.
        labelled: every pair needs a label.

    Raises:
        DataError: no such columns or files, a row without what it needs, an unknown split, two rows of one name.
    """
    table = open_table(absolute(path))
    at = {column.strip().lower(): number for number, column in enumerate(table.columns)}
    if missing := [name for name in _NEEDED if name not in at]:
        raise DataError(f"{path} has no column {missing[0]!r}; its columns: {', '.join(table.columns)}")
    if labelled and "label" not in at:
        raise DataError(f"{path} has no column 'label' with the masks; its columns: {', '.join(table.columns)}")
    columns = [name for name in _COLUMNS if name in at]
    base, items, seen = str(Path(absolute(path)).parent), [], dict[str, str]()
    for cells in table.rows([at[name] for name in columns]):
        if cells.problem:
            raise DataError(f"{cells.where}: {cells.problem}. Mend the row.")
        item = _pair(base, dict(zip(columns, cells.values, strict=False)), cells.where, labelled=labelled)
        if item.name in seen:
            raise DataError(
                f"{cells.where}: the pair {item.name!r} stands in {seen[item.name]} too. Give names that differ."
            )
        seen[item.name] = cells.where
        items.append(item)
    if not items:
        raise DataError(f"{path} has no rows")
    given = any(item.split for item in items)
    return Pairs(tuple(items), os.fspath(path), (), f"as given ({Path(path).name})" if given else "none given")


def _pair(base: str, row: dict[str, str], where: str, *, labelled: bool) -> Pair:
    needed: Sequence[str] = (*_NEEDED, "label") if labelled else _NEEDED
    empty = next((name for name in needed if not row.get(name, "").strip()), None)
    if empty is not None:
        raise DataError(f"{where} has no {empty}. Fill it in, or remove the row.")
    files: dict[str, str] = {}
    for name in (*_NEEDED, "label"):
        if row.get(name, "").strip():
            files[name], there = locate(base, row[name])
            if not there:
                raise DataError(f"{where}: the file {row[name]!r} of {name} is not there ({files[name]})")
    split = row.get("split", "").strip().lower()
    if split and split not in _SPLITS:
        raise DataError(f"{where}: split {split!r} is unknown; expected train, val or test")
    name = row.get("name", "").strip() or Path(files["before"]).name
    return Pair(name, files["before"], files["after"], files.get("label"), _SPLITS.get(split))
