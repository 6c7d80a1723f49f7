"""`regraft evaluate` for a model with several tasks."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.backbones.files import warnings
from regraft.data.task_table import TaskData, read_tasks
from regraft.data.tasks import task_from_json
from regraft.errors import BundleError, DataError, OptionError
from regraft.evaluation.scores import EVERYTHING
from regraft.evaluation.task_scores import evaluate_tasks
from regraft.heads.tasks import TaskHeads
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.evaluate import check_same_features, count_seen, evaluate, which_part
from regraft.recipes.gather import Gathered, gather, hashed, join_file
from regraft.recipes.run import Finished, Run, command_line
from regraft.recipes.tasks import task_outputs, tell
from regraft.recipes.tasks_data import part_of, table_of
from regraft.recipes.tasks_run import FinishedTasks, write_task_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import SimpleNamespace

    from numpy.typing import NDArray

    from regraft.data.manifest import Manifest, Skipped
    from regraft.data.tasks import Task
    from regraft.features.frozen import Frozen
    from regraft.inference.predictor import Predictor
    from regraft.recipes.listen import Clock, Listener


def evaluate_task_model(
    asked: SimpleNamespace, predictor: Predictor, target: Path, home: Path, clock: Clock, listener: Listener
) -> Run:
    """Measure a model of several tasks, each with its own classes, labels or columns, and leave a run.

    Args:
        asked: the options of `evaluate`.
        predictor: the model.
        target: the folder of the new run.
        home: the model's own run, or where its bundle lies.
        clock: counts the time.
        listener: is told what happens.

    Raises:
        RegraftError: as `evaluate`.
    """
    tasks = _tasks_of(predictor)
    if asked.label is not None:
        raise OptionError(f"label {asked.label!r}: this model tells {', '.join(t.name for t in tasks)}. Leave it out.")
    data = _read(asked, tasks, home)
    whole, lost = hashed(data.manifest, clock, listener)
    wanted = which_part(whole, asked.split)
    manifest = replace(whole, items=tuple(i for i in whole.items if wanted in {i.split, EVERYTHING}))
    gathered, backbones = _features(asked, predictor, manifest, lost, clock, listener)
    if not gathered.manifest.items:
        raise DataError(f"{manifest.source} has no readable image to evaluate on")
    data = data.of(gathered.manifest)
    head = predictor.bundle.head
    assert isinstance(head, TaskHeads)
    with clock.phase("evaluate"):
        outputs = task_outputs(head, head.logits(gathered.table.features), data, _training(data, tasks, home))
        scores = evaluate_tasks(
            outputs,
            data.manifest.items,
            split=wanted,
            alone={} if _trained(predictor) else None,
            seen=count_seen(data.manifest, home),
            seed=asked.seed,
            thresholds=wanted == "val" and asked.data is None and any(task.kind == "multilabel" for task in tasks),
        )
    unfilled = [warning for card in predictor.bundle.cards for warning in warnings(card)]
    for warning in unfilled:
        listener.warn(warning)
    tell(scores, listener)
    facts = {
        "command": command_line(evaluate, vars(asked)),
        "options": vars(asked),
        "model": str(Path(asked.model).resolve()),
        "strategy": predictor.bundle.facts.get("strategy", ""),
        "backbone": predictor.bundle.backbone,
        "selection": "",
    }
    left_out = (*unfilled, *data.manifest.hints)
    finished = Finished(target.name, facts, gathered, None, {}, {}, notes=(), left_out=left_out)
    done = FinishedTasks(finished, data, {wanted: outputs}, {wanted: scores})
    return write_task_run(done, target, None, backbones, clock, overwrite=asked.overwrite)


def _tasks_of(predictor: Predictor) -> tuple[Task, ...]:
    try:
        return tuple(task_from_json(values) for values in predictor.bundle.facts["tasks"])
    except (KeyError, TypeError) as error:
        raise BundleError("this model does not say which columns its tasks are. Train it again.") from error


def _read(asked: SimpleNamespace, tasks: Sequence[Task], home: Path) -> TaskData:
    """The data that was named, or that of the model's own run."""
    columns = {name: getattr(asked, name) for name in ("root", "path_column", "split_column", "group_column")}
    if asked.data is not None:
        return read_tasks(table_of(asked.data), tasks, **columns)
    if not (home / "manifest.csv").is_file():
        raise OptionError(f"{asked.model} is a bundle without its run: name the data to evaluate it on")
    return read_tasks(home / "manifest.csv", tasks)


def _features(
    asked: SimpleNamespace,
    predictor: Predictor,
    manifest: Manifest,
    lost: Sequence[Skipped],
    clock: Clock,
    listener: Listener,
) -> tuple[Gathered, tuple[Frozen, ...]]:
    if asked.features is not None:
        file = Path(asked.features)
        gathered = join_file(file, manifest, lost, clock, listener, max_rejected=asked.max_rejected)
        check_same_features(gathered, predictor, file, listener)
        return gathered, ()
    with clock.phase("backbone"):
        backbones = predictor.ready()
    limits = {"max_pixels": asked.max_pixels, "max_rejected": asked.max_rejected}
    return gather(manifest, lost, backbones, predictor.cache, clock, listener, **limits), backbones


def _training(data: TaskData, tasks: Sequence[Task], home: Path) -> Sequence[NDArray[Any]]:
    """The targets that the model learnt from, for what a constant answer gives; those of `data` where they are gone."""
    with contextlib.suppress(DataError):
        learnt = part_of(read_tasks(home / "manifest.csv", tasks), "train")
        if learnt.manifest.items:
            return learnt.targets
    return data.targets


def _trained(predictor: Predictor) -> bool:
    """Whether the network learnt the tasks together, so that a model of one task alone would be another."""
    plan = STRATEGIES.get(predictor.bundle.facts.get("strategy", ""))
    return plan is not None and plan.trains
