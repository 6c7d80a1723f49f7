"""Tables whose images have several tasks: read with targets, divided into splits, written again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.cells import open_table
from regraft.data.manifest import Manifest, Skipped, csv_text, looks_unlike_classes
from regraft.data.rows import absolute
from regraft.data.splits import make_splits
from regraft.data.strata import strata
from regraft.data.table import ROLE_NAMES, read_with_columns
from regraft.data.tasks import Task, all_numbers, known, learn_classes, parse_tasks, targets_of
from regraft.errors import DataError, SplitError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TaskData:
    """Images, and what is known of each in every task.

    Attributes:
        manifest: the images. Their labels are None, and there are no classes.
        tasks: the T tasks.
        cells: for each image and task, the cells of the task's columns, as read.
        targets: for each task an array of one row an image, see `tasks.targets_of`.
    """

    manifest: Manifest
    tasks: tuple[Task, ...]
    cells: tuple[tuple[tuple[str, ...], ...], ...]
    targets: tuple[NDArray[Any], ...]

    def of(self, manifest: Manifest) -> TaskData:
        """The same for a manifest of some of these images (by path), in its order; say, with keys or splits."""
        position = {item.path: at for at, item in enumerate(self.manifest.items)}
        rows = [position[item.path] for item in manifest.items]
        targets = tuple(target[np.array(rows, np.int64)] for target in self.targets)
        return TaskData(manifest, self.tasks, tuple(self.cells[row] for row in rows), targets)

    def to_csv(self) -> str:
        """A table that `read_tasks` reads as the same: path, split, group, sha256, and the tasks' columns.

        A column whose name a task has taken gets another of the usual names: "subset" for "split".
        """
        columns = dict.fromkeys(column for task in self.tasks for column in task.columns)
        taken = {column.strip().casefold() for column in columns}
        names = [next(n for n in ROLE_NAMES[role] if n not in taken) for role in ("path", "split", "group")]
        keys = [] if "sha256" in taken else ["sha256"]
        rows = []
        for item, cells in zip(self.manifest.items, self.cells, strict=True):
            own = {
                column: cell
                for task, row in zip(self.tasks, cells, strict=True)
                for column, cell in zip(task.columns, row, strict=True)
            }
            head = [item.path, item.split or "", item.group or "", *([item.key or ""] if keys else [])]
            rows.append([*head, *(own[column] for column in columns)])
        return csv_text([*names, *keys, *columns], rows)


def read_tasks(
    path: str | os.PathLike[str],
    labels: Sequence[str] | Sequence[Task],
    *,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> TaskData:
    """Read a table with the columns of one or more tasks; the other columns as in `read_table`.

    Images of which nothing is known in any task are skipped, "no label".

    Args:
        path: the table.
        labels: words of --label (see `parse_tasks`), whose classes are found in the table; or tasks, such as
            those of a model, which keep their classes.
        root: where relative paths start.
        path_column: see `read_table`.
        split_column: see `read_table`.
        group_column: see `read_table`.

    Returns:
        Images in the table's order with their targets. The manifest's hints tell of columns that look like
        another kind of task, and of values that are none of a given task's classes.

    Raises:
        DataError: see `read_table`, `parse_tasks`, `learn_classes` and `targets_of`; or no image has a label.
        OptionError: see `parse_tasks`.
        SplitError: see `read_table`.
    """
    table = open_table(absolute(path))
    words = [label for label in labels if isinstance(label, str)]
    given = [label for label in labels if isinstance(label, Task)]
    tasks = tuple(given) or parse_tasks(words, table)
    columns = tuple(dict.fromkeys(column for task in tasks for column in task.columns))
    wanted = {"path": path_column, "label": "", "split": split_column, "group": group_column}
    manifest, rows = read_with_columns(path, wanted, columns, root=root)
    places = {column: at for at, column in enumerate(columns)}
    own = [[tuple(row.extra[places[column]] for column in task.columns) for row in rows] for task in tasks]
    if not given:
        tasks = tuple(learn_classes(*pair) for pair in zip(tasks, own, strict=True))
    where = [row.where for row in rows]
    targets = tuple(targets_of(*pair, where) for pair in zip(tasks, own, strict=True))
    hints = [hint for each in zip(tasks, own, targets, strict=True) for hint in _hints(*each)]
    whole = TaskData(manifest, tasks, tuple(zip(*own, strict=True)), targets)
    labelled = np.any([known(target) for target in targets], axis=0)
    if not labelled.any():
        raise DataError(f"{table.name}: no image has a label in {_named(tasks)}. Name other columns with --label.")
    items = tuple(item for item, there in zip(manifest.items, labelled, strict=True) if there)
    without = [item for item, there in zip(manifest.items, labelled, strict=True) if not there]
    skipped = (*manifest.skipped, *(Skipped(item.path, "no label") for item in without))
    return whole.of(replace(manifest, items=items, skipped=skipped, hints=(*manifest.hints, *hints)))


def _named(tasks: Sequence[Task]) -> str:
    return ", ".join(repr(task.name) for task in tasks)


def _hints(task: Task, cells: Sequence[tuple[str, ...]], targets: NDArray[Any]) -> list[str]:
    """What to say of cells that look like another kind of task, or like another task's."""
    texts = [cell for row in cells for cell in row if cell]
    if task.kind == "classes":
        found = len(set(texts))
        unknown = len(texts) - int(known(targets).sum())
        if unknown:
            return [f"task {task.name!r}: {unknown:,} images have a class that is none of its own; not counted"]
        if looks_unlike_classes(found, len(texts)):
            advice = f"say {task.name}:regression" if all_numbers(texts) else "leave it out"
            values = f"column {task.name!r} has {found:,} different values in {len(texts):,} rows"
            return [f"{values}: it looks like numbers or names, not classes; {advice}"]
    if task.kind == "multilabel" and task.separator and not any(task.separator in text for text in texts):
        return [f"column {task.name!r} never lists two labels: it looks like classes; say {task.name} without a kind"]
    return []


def split_tasks(
    data: TaskData, *, seed: int = 0, val: float = 0.15, test: float = 0.15, resplit: bool = False
) -> TaskData:
    """Make train, val and test where the user has not, with a like share of each stratum (see `strata`).

    Classes of other tasks may miss from a split. Where groups make even the strata impossible, all images
    count as one.

    Args:
        data: what to divide.
        seed: another seed gives another division.
        val: fraction for val.
        test: fraction for test.
        resplit: divide anew although there are splits.

    Raises:
        SplitError, OptionError: see `make_splits`.
    """
    labels, by = strata(data.manifest.items, data.tasks, data.targets)
    options = {"seed": seed, "val": val, "test": test, "resplit": resplit}
    try:
        divided = make_splits(_labelled(data.manifest, labels), **options)  # type: ignore[arg-type]
    except SplitError:
        if len(set(labels)) == 1:
            raise
        divided = make_splits(_labelled(data.manifest, ["all"] * len(labels)), **options)  # type: ignore[arg-type]
        by = "nothing, as groups and classes leave no other way"
    made = divided.split_note.startswith("made")
    note = divided.split_note.replace("of each class", "of each stratum") + f"; strata by {by}" * made
    items = tuple(replace(item, label=None) for item in divided.items)
    return data.of(replace(divided, items=items, classes=(), split_note=note))


def _labelled(manifest: Manifest, labels: Sequence[str]) -> Manifest:
    """The manifest with strata for labels."""
    items = tuple(replace(item, label=label) for item, label in zip(manifest.items, labels, strict=True))
    return replace(manifest, items=items, classes=tuple(sorted(set(labels))))
