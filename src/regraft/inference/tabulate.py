"""Which images are meant, and answers as a table: CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.atomic import atomic_file, write_text
from regraft.data.cells import need_pyarrow
from regraft.data.folder import read_folder
from regraft.errors import DataError, OptionError, RunExists
from regraft.inference.task_answers import distinct, task_cells, task_columns, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regraft.heads.tasks import TaskPart
    from regraft.inference.predictor import Prediction

_ENDINGS = (".csv", ".json", ".parquet")


def images_of(named: Iterable[str]) -> list[str]:
    """Files as they are named, and the images in folders (recursively, in natural order), below their folder's name.

    A named file that does not exist stays in the list: its answer will say so.

    Raises:
        DataError: a folder without images.
    """
    paths: list[str] = []
    for name in named:
        if not Path(name).is_dir():
            paths.append(name)
            continue
        found = [item.path for item in read_folder(name).items]
        if not found:
            raise DataError(f"{name}: no images in this folder")
        root = os.path.abspath(name)  # noqa: PTH100 - links stay unresolved, as in read_folder
        paths += [os.path.join(name, os.path.relpath(path, root)) for path in found]  # noqa: PTH118 - "./a" stays
    return paths


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a file that could not be written, before the work is done.

    Raises:
        OptionError: an ending other than .csv, .json or .parquet.
        RunExists: the file exists and `overwrite` is false.
        MissingExtra: Parquet without pyarrow.
    """
    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        raise OptionError(f"{target}: predictions are written as .csv, .json or .parquet; choose one of these endings")
    if target.exists() and not overwrite:
        raise RunExists(f"{target} exists already. Choose another name, or replace it with --overwrite.")
    if ending == ".parquet":
        need_pyarrow("writing Parquet")


def write_predictions(
    answers: Sequence[Prediction],
    classes: Sequence[str],
    target: Path,
    *,
    tasks: Sequence[TaskPart] = (),
    overwrite: bool = False,
) -> None:
    """Write one row an image, atomically: path, label, probability, unsure, unlike, is_unlike, classes, error, notes.

    Args:
        answers: what the model says.
        classes: of the model.
        target: the file.
        tasks: of a model with several; each has its own columns, see `task_columns`, in place of label, probability,
            unsure and the classes. JSON holds the probability of every class as well.
        overwrite: whether the file may be there.

    Raises:
        RegraftError: as `check_target`.
    """
    check_target(target, overwrite=overwrite)
    columns = _task_columns(tasks) if tasks else _columns(classes)
    rows = [_task_row(answer, tasks, columns) if tasks else _row(answer, classes) for answer in answers]
    ending = target.suffix.lower()
    if ending == ".csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(target, buffer.getvalue())
    elif ending == ".json":
        nested = [to_json(answer) | {"path": row["path"]} for answer, row in zip(answers, rows, strict=True)]
        write_text(target, json.dumps(nested if tasks else rows, indent=1) + "\n")
    else:
        _write_parquet(rows, columns, target)


def _columns(classes: Sequence[str]) -> dict[str, type]:
    """The columns and what they hold."""
    own = {"path": str, "label": str, "probability": float, "unsure": bool, "unlike": float, "is_unlike": bool}
    return {**own, **{f"p_{name}": float for name in classes}, "error": str, "notes": str}


def _task_columns(tasks: Sequence[TaskPart]) -> dict[str, type]:
    own = task_columns(tasks)
    names = distinct(["path", "unlike", "is_unlike", "error", "notes", *(name for name, _ in own)])
    shared = dict(zip(names[:5], (str, float, bool, str, str), strict=True))
    tasks_own = {name: str if text else float for name, (_, text) in zip(names[5:], own, strict=True)}
    return {"path": str, **tasks_own, **shared}


def _task_row(answer: Prediction, tasks: Sequence[TaskPart], columns: Iterable[str]) -> dict[str, Any]:
    unlike = (None, None) if answer.unlike is None else (round(answer.unlike, 4), answer.is_unlike)
    cells = [os.path.normpath(answer.path), *task_cells(tasks, answer.tasks), *unlike, answer.error]
    return dict(zip(columns, [*cells, "; ".join(answer.notes)], strict=True))


def _row(answer: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "path": os.path.normpath(answer.path),
        "label": answer.label,
        "probability": answer.probability,
        "unsure": None if answer.label is None else answer.unsure,
        "unlike": None if answer.unlike is None else round(answer.unlike, 4),
        "is_unlike": None if answer.unlike is None else answer.is_unlike,
        **{f"p_{name}": answer.probabilities.get(name) for name in classes},
        "error": answer.error,
        "notes": "; ".join(answer.notes),
    }


def _write_parquet(rows: list[dict[str, Any]], columns: dict[str, type], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), bool: pa.bool_(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    # Parquet strings are UTF-8: bytes of a file name that are not are written as \xNN.
    for row in rows:
        row["path"] = row["path"].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    with atomic_file(target) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)
