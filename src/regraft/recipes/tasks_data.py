"""The images of a table with the targets of several tasks: read, divided into splits, with features."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.cells import TABLE_ENDINGS, open_table
from regraft.data.manifest import looks_unlike_classes
from regraft.data.rows import absolute
from regraft.data.task_table import TaskData, read_tasks, split_tasks
from regraft.data.tasks import known, label_words, means_tasks, parse_tasks
from regraft.errors import DataError, OptionError
from regraft.recipes.backbone import prepare_backbones
from regraft.recipes.gather import Gathered, check_rejected, gather, hashed, join_file
from regraft.recipes.listen import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace

    from numpy.typing import NDArray

    from regraft.backbones.recognise import FileOptions
    from regraft.data.tasks import Task
    from regraft.features.frozen import Frozen
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.listen import Clock

MEASURED = ("test", "val")  # the parts that a model is measured on; the first that is there is told


def names_tasks(label: str | Sequence[str] | None, data: str | os.PathLike[str] | None) -> bool:
    """Whether --label means tasks, not one column of classes.

    Raises:
        DataError, OptionError: the words cannot be understood, see `parse_tasks`; or the data is no table.
    """
    words = label_words(label)
    if not means_tasks(words):
        return False
    tasks = parse_tasks(words, open_table(absolute(table_of(data))))
    return len(tasks) > 1 or tasks[0].kind != "classes"


def table_of(data: str | os.PathLike[str] | None) -> str:
    """The table that was named.

    Raises:
        OptionError: it is none, or none was named.
    """
    name = "" if data is None else os.fspath(data)
    if Path(name).suffix.lower() not in {*TABLE_ENDINGS, ".txt"} or Path(name).is_dir():
        told = f"{name} is not a table" if name else "there is no table"
        raise OptionError(f"{told}, so no columns can be tasks (--label). Name a table (.csv, .tsv, .parquet).")
    return name


def gather_tasks(
    asked: SimpleNamespace, plan: Strategy, own: FileOptions, cache: Path, clock: Clock, listener: Listener
) -> tuple[tuple[Frozen, ...], Gathered, TaskData]:
    """The images of a table with features of the frozen backbones and their targets, divided into splits.

    The rows of the features, of the manifest and of the targets are those of the same images.

    Raises:
        RegraftError: as `train`; what cannot be divided or learnt from is refused before the long part.
    """
    with clock.phase("read"):
        data = read_tasks(
            table_of(asked.data),
            label_words(asked.label),
            root=asked.root,
            path_column=asked.path_column,
            split_column=asked.split_column,
            group_column=asked.group_column,
        )
    _check_forms(data.tasks, plan)
    manifest, lost = hashed(data.manifest, clock, listener)
    check_rejected(lost, len(manifest) + len(lost), asked.max_rejected, Listener())
    divided = split_tasks(data.of(manifest), seed=asked.seed, resplit=asked.resplit)
    _check_trainable(divided)
    backbones: tuple[Frozen, ...] = ()
    if asked.features is not None:
        file = Path(asked.features)
        gathered = join_file(file, manifest, lost, clock, listener, max_rejected=asked.max_rejected)
    else:
        backbones = prepare_backbones(
            asked.backbone,
            cache,
            clock,
            listener,
            runtime=asked.runtime,
            precision="bf16" if asked.precision == "bf16" and not plan.trains else "f32",
            views="flip" if asked.views == "flip" else "none",
            options=own,
        )
        limits = {"max_pixels": asked.max_pixels, "max_rejected": asked.max_rejected}
        gathered = gather(manifest, lost, backbones, cache, clock, listener, **limits)
    if len(gathered.manifest) < len(manifest):  # some could not be decoded: divide what is left
        divided = split_tasks(data.of(gathered.manifest), seed=asked.seed, resplit=asked.resplit)
        _check_trainable(divided)
    return backbones, replace(gathered, manifest=divided.manifest), divided


def _check_forms(tasks: Sequence[Task], plan: Strategy) -> None:
    """Refuse a strategy that has no form for one of these tasks."""
    serving = {"multilabel": ("linear-probe",), "regression": ("linear-probe", "knn")}
    for task in tasks:
        if not plan.trains and plan.head not in serving.get(task.kind, (plan.head,)):
            raise OptionError(
                f"strategy {plan.name} tells classes only, and {task.name!r} is a {task.kind} task: use"
                f" {' or '.join(serving[task.kind])}."
            )


def _check_trainable(data: TaskData) -> None:
    source = data.manifest.source
    if not any(item.split in MEASURED for item in data.manifest.items):
        raise DataError(
            f"{source} has a training part only; there is nothing to measure the model on. Add val or test, or let"
            f" Regraft make them with --resplit."
        )
    part = part_of(data, "train")
    for task, target in zip(part.tasks, part.targets, strict=True):
        there = target[known(target)]
        if task.kind == "classes" and len(np.unique(there)) < 2:  # noqa: PLR2004 - a choice needs two
            present = task.classes[int(there[0])] if len(there) else "none"
            raise DataError(
                f"The training part of {source} has images of one class of {task.name!r} ({present}) only; expected at"
                f" least two. Leave the task out, or add images."
            )
        values, many = len(np.unique(there)), len(there)
        # as many values as images: nothing that could be learnt of one class and seen on another image of it
        if task.kind == "classes" and (looks_unlike_classes(values, many) or values == many):
            raise DataError(
                f"{task.name!r} has {values:,} different values in {many:,} training images: numbers or names, not"
                f" classes. Say --label {task.name}:regression if they are numbers, or leave the task out."
            )
        if task.kind == "regression":
            _check_numbers(task, there, source)
        if task.kind == "multilabel" and not (there == 1).any():
            raise DataError(f"The training part of {source} has no image with any of {task.name!r}. Leave it out.")


def _check_numbers(task: Task, there: NDArray[np.float64], source: str) -> None:
    """Refuse a number that is unknown, or the same, in all training images."""
    for column, numbers in zip(task.columns, there.T, strict=True):
        known_ones = numbers[np.isfinite(numbers)]
        found = np.unique(known_ones)
        if len(found) < 2:  # noqa: PLR2004 - one number says nothing of how numbers differ
            has = f"the same number in all {len(known_ones):,}" if len(found) else "no number in any of the"
            raise DataError(
                f"Column {column!r} has {has} training images of {source}, so there is nothing to learn. Leave it out."
            )


def part_of(data: TaskData, split: str) -> TaskData:
    """The images of one split."""
    return data.of(data.manifest.split(split))
