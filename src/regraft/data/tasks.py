"""Tasks: what is to be told of an image - one class, several labels, or numbers - and its targets from cells."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.names import natural_sort, shown
from regraft.data.table import ROLE_NAMES, column_named
from regraft.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from regraft.data.cells import Table

KINDS = ("classes", "multilabel", "regression")
_SEPARATORS = ("|", ";", ",")
_YES_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": -1}
# In a column of numbers these cannot be anything else; the cell "nan" is emptied when the table is read.
_NO_NUMBER = {"", "na", "n/a", "null", "none"}
_COLUMNS_SHOWN = 30
# What a pattern never means: the columns that say which image, which split and which group.
_NO_TASKS = {name for role in ("path", "split", "group") for name in ROLE_NAMES[role]} | {"id", "sha256", ""}


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be told of every image.

    Attributes:
        name: what the user called it: the column's name, or the columns' as in "x,y" and "attr_*".
        kind: "classes" (one of several), "multilabel" (any of several) or "regression" (numbers).
        columns: the columns of the table that hold it.
        classes: the K classes or L labels; for regression the R columns.
        separator: what parts the labels in a cell of the one column of a multilabel task; empty where the
            columns hold 0 and 1, one a label.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    separator: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for `task_from_json`."""
        return asdict(self)


def task_from_json(values: dict[str, Any]) -> Task:
    """The task that gave these values."""
    return Task(**{**values, "columns": tuple(values["columns"]), "classes": tuple(values["classes"])})


def label_words(label: object) -> list[str]:
    """The words of --label.

    Raises:
        OptionError: what is no name of a column, and no list of such.
    """
    words = [] if label is None else [label] if isinstance(label, str) else label
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise OptionError(f"label is {label!r}; expected the name of a column, or several in a list")
    return list(words)


def means_tasks(words: Sequence[str]) -> bool:
    """Whether words of --label may name anything but one column of classes; `parse_tasks` knows for certain."""
    return len(words) > 1 or any(":" in word or "," in word for word in words)


def parse_tasks(words: Sequence[str], table: Table) -> tuple[Task, ...]:
    """The tasks that words of --label name; their classes are not known yet (see `learn_classes`).

    A word is the name of a column (classes), or names and a kind: `price:regression`, `x,y:regression` (two
    numbers), `tags:multilabel` (a list in each cell), `red,green:multilabel` or `attr_*:multilabel` (columns of
    0 and 1). A column of exactly that name wins over any other reading.

    Raises:
        OptionError: an unknown kind, several columns for one class, or a task named twice.
        DataError: no such column.
    """
    tasks = tuple(_parse(word, table) for word in words)
    names = [task.name for task in tasks]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise OptionError(f"--label names {twice[0]!r} {names.count(twice[0])} times. Name each task once.")
    return tasks


def _parse(word: str, table: Table) -> Task:
    if _is_column(word, table):
        return Task(_column(word, table), "classes", (_column(word, table),))
    body, colon, kind = word.rpartition(":")
    if colon and kind not in KINDS and _columns(body, table, certain=False):
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean {body}:{near[0]}?" if near else ""
        raise OptionError(f"--label {word}: there is no kind of task {kind!r}. Expected {_kinds(body)}.{hint}")
    if not colon or kind not in KINDS:
        body, kind = word, "classes"
    columns = _columns(body, table)
    if kind == "classes" and len(columns) > 1:
        raise OptionError(
            f"--label {word} names {len(columns)} columns. Say {body}:multilabel if they hold 0 and 1,"
            f" {body}:regression if they hold numbers, or give each a --label of its own."
        )
    name = columns[0] if _is_column(body, table) else body
    return Task(name, kind, columns, columns if kind == "regression" else ())


def _kinds(body: str) -> str:
    return " or ".join(f"{body}:{kind}" for kind in KINDS)


def _columns(body: str, table: Table, *, certain: bool = True) -> tuple[str, ...]:
    """The columns that a word without its kind names; none where it names no column and need not (`certain`)."""
    if _is_column(body, table):
        return (_column(body, table),)
    found: list[str] = []
    for name in body.split(","):
        if _is_column(name, table):
            found.append(_column(name, table))
            continue
        if any(mark in name for mark in "*?["):
            matches = [
                column
                for column in table.columns
                if fnmatchcase(column.casefold(), name.casefold()) and column.strip().casefold() not in _NO_TASKS
            ]
            if not matches and certain:
                its = shown([repr(column) for column in table.columns], _COLUMNS_SHOWN)
                raise DataError(f"{table.name} has no column like {name!r} (--label). Its columns: {its}.")
            found += matches
        elif certain:
            column_named(table, name)  # says what there is
        else:
            return ()
    return tuple(dict.fromkeys(found))


def _is_column(name: str, table: Table) -> bool:
    return any(column.strip().casefold() == name.strip().casefold() for column in table.columns)


def _column(name: str, table: Table) -> str:
    return table.columns[column_named(table, name)]


def learn_classes(task: Task, cells: Sequence[tuple[str, ...]]) -> Task:
    """The task with the classes, or the labels and their separator, that its cells hold.

    Raises:
        DataError: fewer than two classes, or no label at all.
    """
    if task.kind == "regression":
        return task
    if task.kind == "classes":
        classes = natural_sort({cell for (cell,) in cells if cell})
        if len(classes) < 2:  # noqa: PLR2004 - one class is nothing to tell apart
            only = f"only the value {classes[0]!r}" if classes else "no value at all"
            raise DataError(f"Column {task.name!r} has {only}. A task needs two classes: name another column.")
        return replace(task, classes=classes)
    texts = [cell for row in cells for cell in row]
    if len(task.columns) > 1 or all(text.casefold() in _YES_NO for text in texts):
        return replace(task, classes=task.columns)
    separator = next((mark for mark in _SEPARATORS if any(mark in text for text in texts)), _SEPARATORS[0])
    classes = natural_sort({label for text in texts for label in _listed(text, separator)})
    if not classes:
        raise DataError(f"Column {task.name!r} lists no label in any row. Name another column.")
    return replace(task, classes=classes, separator=separator)


def targets_of(task: Task, cells: Sequence[tuple[str, ...]], where: Sequence[str]) -> NDArray[Any]:
    """What a head of this task learns.

    Args:
        task: with its classes.
        cells: for each of N images, the cells of the task's columns.
        where: file and line of each, for messages.

    Returns:
        classes: (N,) int64, -1 where the cell is empty or holds a class that is not the task's.
        multilabel: (N, L) int8 of 0 and 1, -1 where nothing is known. An empty cell is not known; a cell that
        holds nothing but the separator ("|") says that no label applies; labels that are not the task's are
        left out.
        regression: (N, R) float64, NaN where the cell is empty or says NA, N/A, null, none or nan.

    Raises:
        DataError: a cell that is no number, or no 0 or 1, with its file and line.
    """
    if task.kind == "regression":
        rows = [[_number(task, *pair, at) for pair in enumerate(row)] for row, at in zip(cells, where, strict=True)]
        return np.array(rows, np.float64).reshape(len(cells), len(task.columns))
    index = {name: position for position, name in enumerate(task.classes)}
    if task.kind == "classes":
        return np.array([index.get(cell, -1) for (cell,) in cells], np.int64)
    targets = np.full((len(cells), len(task.classes)), -1, np.int8)
    for target, row, at in zip(targets, cells, where, strict=True):
        if not task.separator:
            target[:] = [_yes_no(task, *pair, at) for pair in enumerate(row)]
        elif row[0]:
            target[:] = 0
            target[[index[label] for label in _listed(row[0], task.separator) if label in index]] = 1
    return targets


def known(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether anything is known of each image: (N,) from the targets of any kind of task."""
    there = np.isfinite(targets) if targets.dtype.kind == "f" else np.greater_equal(targets, 0)
    result: NDArray[np.bool_] = np.any(there.reshape(len(targets), -1), axis=1)
    return result


def all_numbers(texts: Iterable[str]) -> bool:
    """Whether every text that is not empty is a number."""
    try:
        return all(math.isfinite(float(text)) for text in texts if text)
    except ValueError:
        return False


def _listed(cell: str, separator: str) -> list[str]:
    return [label.strip() for label in cell.split(separator) if label.strip()]


def _yes_no(task: Task, position: int, cell: str, where: str) -> int:
    value = _YES_NO.get(cell.casefold())
    if value is None:
        raise DataError(
            f"{where}: {cell!r} in column {task.columns[position]!r} is neither 0 nor 1. Columns of"
            f" {task.name}:multilabel hold 0, 1 or nothing."
        )
    return value


def _number(task: Task, position: int, cell: str, where: str) -> float:
    if cell.casefold() in _NO_NUMBER:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(
            f"{where}: {cell!r} in column {task.columns[position]!r} is no number. Columns of"
            f" {task.name}:regression hold numbers such as 12.5 (with a decimal point), or nothing."
        )
    return number
