"""Tables of images: CSV, TSV and Parquet files with a path, and maybe label, split and group columns."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.data.cells import Table, open_table
from regraft.data.manifest import COLUMNS, Item, Manifest, Skipped, looks_unlike_classes
from regraft.data.names import natural_sort, shown, split_of, split_words
from regraft.data.rows import Row, absolute, locate, once
from regraft.data.signatures import IMAGE_ENDINGS, has_image_ending
from regraft.errors import DataError, SplitError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

# What a column may be called, in lower case, and the option that names another.
ROLE_NAMES = {
    "path": ("path", "image", "image_path", "filename", "file", "filepath", "file_name", "img"),
    "label": ("label", "class", "target", "category", "label_name", "y"),
    "split": ("split", "set", "subset"),
    "group": ("group", "group_id", "patient", "subject"),
}
_OPTIONS = {"path": "--path-column", "label": "--label", "split": "--split-column", "group": "--group-column"}
# What pandas writes for a cell without a value. Other such words (NA, None, null) may be classes.
_MISSING = {"NaN", "nan"}
_COLUMNS_SHOWN = 30
# Columns that cannot be labels: counters, and what Regraft writes itself.
_NO_LABELS = {"", "id", "index", "__index_level_0__", "sha256"}
# An id may lack any of these; the rarer endings would cost a look at the disk each for every missing file.
_ID_ENDINGS = tuple(form for ending in IMAGE_ENDINGS[:8] for form in (ending, ending.upper()))


@dataclass(frozen=True, slots=True)
class _Roles:
    """The position of each column in the header; None where the table has none."""

    path: int
    label: int | None
    split: int | None
    group: int | None
    extra: tuple[int, ...] = ()


@dataclass(frozen=True)
class Further:
    """The cells of a table that are neither path, label, split nor group.

    Attributes:
        columns: their names; a name that stands for a path, label, split, group or hash has an underscore added.
        cells: by the path of an item, one for each column.
    """

    columns: tuple[str, ...]
    cells: dict[str, tuple[str, ...]]


def read_table(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    label_column: str | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    source: str | None = None,
) -> Manifest:
    """Read a table with one row an image.

    The columns are found by their usual names (path, image, file, ...; label, class, ...; split, set,
    subset; group, patient, ...), in any case, or named by the caller. An empty name means "no such
    column". A table without a label column is an error, because one was probably meant, unless it
    has no column that could be one. A path may be an id: it is completed with the common image
    endings, and with `root` a column "id" is taken when there is no path column.

    Relative paths start from `root`, or else from the table's folder. Labels are text as written ("3",
    "03" and "3.0" are three classes). An empty cell and the words NaN and nan, which pandas writes for
    one, are no label, split or group; other words (None, NA, null, ...) are taken as they stand, as they may
    be classes. Rows with a wrong number of cells or without a path are skipped, with the reason. Blanks
    around cells do not count. A table with exactly the header that `Manifest.write` gives is taken to the
    letter, blanks and nan included.

    Returns:
        Items in the table's order, classes in natural order, no keys. Files that are missing are items as
        long as one is there. A hint when the labels look like numbers or names.

    Raises:
        DataError: the table cannot be read, a column is missing or could be several, no file is there, or
            one file is listed with two labels.
        SplitError: an unknown word in the split column, or a file listed in two splits.
        MissingExtra: a Parquet table without pyarrow.
    """
    wanted = {"path": path_column, "label": label_column, "split": split_column, "group": group_column}
    manifest, _ = read_with_columns(path, wanted, root=root)
    return manifest if source is None else replace(manifest, source=source)


def read_with_columns(
    path: str | os.PathLike[str],
    wanted: dict[str, str | None],
    extra: Sequence[str] = (),
    *,
    root: str | os.PathLike[str] | None = None,
) -> tuple[Manifest, tuple[Row, ...]]:
    """As `read_table`, with the cells of further columns.

    Args:
        path: the table.
        wanted: the names of the columns path, label, split and group as the caller of `read_table` gives them.
        extra: names of further columns, as `column_named` finds them; none of them is taken for a path, a split
            or a group unless `wanted` says so.
        root: where relative paths start.

    Returns:
        The manifest, and the row that each of its items comes from, in the same order.

    Raises:
        DataError, SplitError, MissingExtra: as `read_table`.
    """
    location = absolute(path)
    table = open_table(location)
    more = tuple(column_named(table, name) for name in extra)
    roles = _roles(table, wanted, more, ids=root is not None)
    base = str(Path(location).parent) if root is None else absolute(root)
    broken: list[Skipped] = []
    rows, skipped = once(
        _rows(table, roles, base, broken),
        source=table.name,
        remedy="Relative paths start from the table's folder; say with --root where the images are.",
    )
    skipped = [*broken, *skipped]
    if not rows:
        shown = f", such as {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{location} has no usable row below its header ({len(skipped)} skipped{shown}).")
    items = tuple(row.item for row in rows)
    classes = natural_sort({item.label for item in items if item.label is not None})
    hints = () if roles.label is None else _hints(items, classes, table.columns[roles.label])
    return Manifest(items, classes, str(path), tuple(skipped), hints=hints), tuple(rows)


def further_columns(
    path: str | os.PathLike[str], wanted: dict[str, str | None], *, root: str | os.PathLike[str] | None = None
) -> Further:
    """What a table says of its images beyond what a manifest holds; columns of lists and the like are left out.

    The column of the labels is among them where its name is not a usual one, so that it is found by that name, too.

    Args:
        path: the table.
        wanted: see `read_with_columns`.
        root: where relative paths start.

    Raises:
        DataError, SplitError, MissingExtra: as `read_table`.
    """
    _, rows = read_with_columns(path, wanted, root=root)
    table = open_table(absolute(path))
    roles = _roles(table, wanted, (), ids=root is not None)
    taken = {roles.path, roles.split, roles.group}
    if roles.label is not None and table.columns[roles.label].strip().casefold() in ROLE_NAMES["label"]:
        taken.add(roles.label)
    others = [at for at, name in enumerate(table.columns) if at not in taken and name != COLUMNS[-1]]
    others = [at for at in others if table.columns[at].strip() and _plain(table, at)]
    cells = {found.where: found.values for found in table.rows(others) if not found.problem} if others else {}
    return Further(
        _free_names([table.columns[at] for at in others]),
        {row.item.path: cells[row.where] if others else () for row in rows},
    )


def _plain(table: Table, position: int) -> bool:
    """Whether a column has cells that a text can hold."""
    try:
        next(iter(table.rows([position])), None)
    except DataError:
        return False
    return True


def _free_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that differ from each other and from what a written table's own columns may be called."""
    taken = {name for usual in ROLE_NAMES.values() for name in usual} | set(COLUMNS)
    free = []
    for name in names:
        own = name
        while own.strip().casefold() in taken:
            own += "_"
        taken.add(own.strip().casefold())
        free.append(own)
    return tuple(free)


def _rows(table: Table, roles: _Roles, base: str, broken: list[Skipped]) -> Iterator[Row]:
    """Rows as items; rows that cannot be read go to `broken`."""
    literal = table.columns == COLUMNS
    optional = (roles.label, roles.split, roles.group)
    used = [roles.path, *(position for position in optional if position is not None), *roles.extra]
    endings = _ID_ENDINGS
    for cells in table.rows(used):
        if cells.problem or not cells.values[0].strip():
            broken.append(Skipped(cells.where, cells.problem or "no path in this row"))
            continue
        value, *rest = cells.values
        texts = iter(rest if literal else [_text(cell) for cell in rest])
        label, split, group = (None if position is None else next(texts) or None for position in optional)
        extra = tuple(_text(cell) for cell in texts)  # those that are left
        where, found = locate(base, value, () if has_image_ending(value.strip()) else endings)
        if found and where.endswith(endings) and endings[0] != where[-len(endings[0]) :]:
            # The other ids probably have the same ending: look for that first.
            endings = tuple(sorted(endings, key=lambda ending: not where.endswith(ending)))
        yield Row(Item(where, label, _split(split, cells.where), group), cells.where, found, extra)


def _text(cell: str) -> str:
    text = cell.strip()
    return "" if text in _MISSING else text


def _hints(items: Sequence[Item], classes: tuple[str, ...], column: str) -> tuple[str, ...]:
    """What to say of a label column that holds something else than classes."""
    labelled = sum(item.label is not None for item in items)
    if not looks_unlike_classes(len(classes), labelled):
        return ()
    found = f"column {column!r} has {len(classes):,} different values in {labelled:,} rows"
    advice = f"it looks like numbers or names, not classes; name another column with {_OPTIONS['label']}"
    return (f"{found}: {advice}",)


def _split(word: str | None, where: str) -> str | None:
    if word is None:
        return None
    split = split_of(word)
    if split is None:
        raise SplitError(
            f"{where}: {word!r} is no split. Expected one of {split_words()}. Name the right column with"
            f" --split-column, or give --split-column '' to leave splits out."
        )
    return split


def _roles(table: Table, wanted: dict[str, str | None], extra: tuple[int, ...], *, ids: bool) -> _Roles:
    """Decide which column is what."""
    named = {role: column_named(table, name, _OPTIONS[role]) for role, name in wanted.items() if name}
    taken = {*named.values(), *extra}
    found: dict[str, int | None] = {}
    for role, name in wanted.items():
        # An empty name says that there is no such column; only the path cannot be done without.
        found[role] = named.get(role) if name is not None else _guessed(table, role, ROLE_NAMES[role], taken)
    if found["path"] is None and wanted["path"] is None and ids:
        found["path"] = _guessed(table, "path", ("id",), taken)
    path = found["path"]
    if path is None:
        raise DataError(
            f"{table.name} has no path column. {_columns(table)} Name it with {_OPTIONS['path']}."
            f" The first row of a table must hold the names of its columns."
        )
    used = {position for position in found.values() if position is not None}
    others = [
        name for at, name in enumerate(table.columns) if at not in used and name.strip().casefold() not in _NO_LABELS
    ]
    if found["label"] is None and wanted["label"] is None and others:
        raise DataError(
            f"{table.name} has no label column. {_columns(table)} Name it with {_OPTIONS['label']}, or give"
            f" {_OPTIONS['label']} '' if the images have no labels."
        )
    return _Roles(path, found["label"], found["split"], found["group"], extra)


def column_named(table: Table, name: str, option: str = _OPTIONS["label"]) -> int:
    """The position of the column that the user named with an option; case counts only where it decides.

    Raises:
        DataError: there is no such column, or several.
    """
    matches = [at for at, column in enumerate(table.columns) if column == name]
    matches = matches or [
        at for at, column in enumerate(table.columns) if column.strip().casefold() == name.strip().casefold()
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DataError(f"{table.name} has {len(matches)} columns named {name!r}. {_columns(table)} Rename one.")
    near = difflib.get_close_matches(name, table.columns, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(f"{table.name} has no column {name!r} ({option}). {_columns(table)}{hint}")


def _guessed(table: Table, role: str, names: tuple[str, ...], taken: set[int]) -> int | None:
    """The position of the one column with a usual name for this role, or None."""
    matches = [at for at, column in enumerate(table.columns) if column.strip().casefold() in names and at not in taken]
    if len(matches) > 1:
        several = ", ".join(repr(table.columns[at]) for at in matches)
        raise DataError(
            f"{table.name}: several columns could be the {role}: {several}. {_columns(table)} Say which with"
            f" {_OPTIONS[role]}."
        )
    return matches[0] if matches else None


def _columns(table: Table) -> str:
    return f"Its columns: {shown([repr(column) for column in table.columns], _COLUMNS_SHOWN)}."
