"""Several tasks on one frozen backbone: fitted head by head, measured task by task."""

from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.tasks import known
from regraft.evaluation.multilabel import choose_thresholds
from regraft.evaluation.task_scores import TaskOutputs, TaskScores, evaluate_tasks
from regraft.features.runtime import cores
from regraft.heads.head import Fitted
from regraft.heads.tasks import TaskHeads, TaskPart, fit_task
from regraft.heads.threads import one_thread
from regraft.inference.guard import Guard, learn_familiar
from regraft.inference.task_answers import output_names
from regraft.recipes.fit_head import Outcome, groups_of
from regraft.recipes.frozen_run import frozen_bundle, joined_name, unfilled
from regraft.recipes.guard_head import guard_head
from regraft.recipes.listen import Listener
from regraft.recipes.run import Finished, Run
from regraft.recipes.tasks_data import MEASURED, part_of
from regraft.recipes.tasks_run import FinishedTasks, write_task_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import SimpleNamespace

    from numpy.typing import NDArray

    from regraft.data.task_table import TaskData
    from regraft.data.tasks import Task
    from regraft.features.frozen import Frozen
    from regraft.heads.calibrated import Method
    from regraft.inference.bundle import Bundle
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock

_WIDTH = 100  # characters of a line on a terminal


def frozen_tasks_run(
    gathered: Gathered,
    data: TaskData,
    backbones: Sequence[Frozen],
    plan: Strategy,
    asked: SimpleNamespace,
    facts: dict[str, Any],
    name: str,
    target: Path,
    clock: Clock,
    listener: Listener,
    *,
    notes: tuple[str, ...] = (),
) -> Run:
    """Fit a head for each task on the features of frozen backbones, measure them, and leave a run.

    Args:
        gathered: all images, with features and splits.
        data: what is true of them.
        backbones: whose features they are; none for a feature file.
        plan: a strategy that is a head on features.
        asked: options of the command: `seed`, `overwrite`, `calibrate`.
        facts: command and options, for config.json.
        name: of the run.
        target: its folder.
        clock: counts the time.
        listener: is told what happens.
        notes: sentences about the data.
    """
    fitted = fit_tasks(gathered, data, plan, asked.seed, clock, listener)
    fitted, guard = guard_tasks(gathered, data, fitted, plan, asked.calibrate, asked.seed, clock, listener)
    fitted, outputs, scores = measure_tasks(gathered, data, fitted, asked.seed, clock, listener)
    facts = {**facts, "strategy": plan.name, "backbone": joined_name(backbones), "selection": plan.selection}
    told = (*unfilled(backbones), *notes, *fitted.notes)
    finished = Finished(name, facts, gathered, fitted, {}, {}, told, guard=guard)
    bundle = task_bundle(frozen_bundle(gathered, backbones, Outcome(fitted, {}, {}, ()), plan, guard), data.tasks)
    done = FinishedTasks(finished, data, outputs, scores)
    return write_task_run(done, target, bundle, backbones, clock, overwrite=asked.overwrite)


def task_bundle(bundle: Bundle, tasks: Sequence[Task]) -> Bundle:
    """The bundle of `TaskHeads`: its classes are the names of all outputs, and its facts hold the tasks."""
    assert isinstance(bundle.head, TaskHeads)
    facts = {**bundle.facts, "tasks": [task.to_json() for task in tasks]}
    return replace(bundle, classes=output_names(bundle.head.parts), facts=facts)


def fit_tasks(
    gathered: Gathered, data: TaskData, plan: Strategy, seed: int, clock: Clock, listener: Listener
) -> Fitted:
    """Fit the strategy's head for each task on the training part; each is the one that its task alone would get.

    Returns:
        `TaskHeads`; the history with a column "task", the settings chosen by task, and notes that name theirs.
    """
    part, learnt = gathered.split("train"), part_of(data, "train")
    clock.import_now(*plan.imports)
    groups = groups_of(part.manifest)

    def fit(task: Task, target: NDArray[Any]) -> Fitted:
        shared: dict[str, Any] = {"groups": groups, "seed": seed, "names": task.classes, "blocks": gathered.blocks}
        return fit_task(task.kind, plan.head, part.table.features, target, len(task.classes), **shared)

    # The heads limit the BLAS to one thread, for the whole process: the outer limit outlasts those of all threads.
    with clock.phase("fit"), one_thread(), ThreadPoolExecutor(cores()) as pool:
        each = dict(zip(data.tasks, pool.map(fit, learnt.tasks, learnt.targets), strict=True))
    head = TaskHeads(tuple(TaskPart(task.name, task.kind, task.classes, own.head) for task, own in each.items()))
    history = [{"task": task.name, **row} for task, own in each.items() for row in own.history]
    notes = [f"{task.name}: {note}" for task, own in each.items() for note in own.notes]
    for note in notes:
        listener.warn(note)
    return Fitted(head, history, {task.name: own.chosen for task, own in each.items()}, notes)


def guard_tasks(
    gathered: Gathered,
    data: TaskData,
    fitted: Fitted,
    plan: Strategy,
    method: Method,
    seed: int,
    clock: Clock,
    listener: Listener,
) -> tuple[Fitted, Guard]:
    """Calibrate the heads of tasks with classes, each as in a run of its own, and learn what images are like.

    Returns:
        What was fitted, with the heads corrected and notes that say so, and what stands beside all answers.
    """
    head = fitted.head
    assert isinstance(head, TaskHeads)
    parts, chosen, notes = [], dict(fitted.chosen), list(fitted.notes)
    for part, task, targets in zip(head.parts, data.tasks, data.targets, strict=True):
        if task.kind != "classes":
            parts.append(part)
            continue
        alone = Fitted(part.head, chosen=chosen[task.name])
        view = _of_one_task(gathered, task, targets)
        own = guard_head(view, alone, plan.head, clock, Listener(), method=method, seed=seed)
        parts.append(replace(part, head=own.fitted.head))
        chosen[task.name] = own.fitted.chosen
        for note in own.notes:
            notes.append(f"{task.name}: {note}")
            listener.say(notes[-1])
    with clock.phase("calibrate"):
        train = gathered.split("train")
        groups = groups_of(train.manifest)
        guard = Guard(None, learn_familiar(train.table.features, groups=groups, blocks=gathered.blocks, seed=seed))
    return replace(fitted, head=TaskHeads(tuple(parts)), chosen=chosen, notes=notes), guard


def _of_one_task(gathered: Gathered, task: Task, targets: NDArray[np.int64]) -> Gathered:
    """The images of which a task's class is known, as if there were no other task."""
    own = gathered.take(np.flatnonzero(known(targets)).tolist())
    labels = [task.classes[target] for target in targets[known(targets)].tolist()]
    items = tuple(replace(item, label=label) for item, label in zip(own.manifest.items, labels, strict=True))
    return replace(own, manifest=replace(own.manifest, items=items, classes=task.classes))


def measure_tasks(
    gathered: Gathered, data: TaskData, fitted: Fitted, seed: int, clock: Clock, listener: Listener
) -> tuple[Fitted, dict[str, tuple[TaskOutputs, ...]], dict[str, TaskScores]]:
    """Thresholds of labels, chosen on val; then outputs and numbers on test and val, the one to be told first.

    Returns:
        What was fitted, with its thresholds; for each split the outputs of the tasks, and their numbers.
    """
    head = fitted.head
    assert isinstance(head, TaskHeads)
    training = part_of(data, "train").targets
    with clock.phase("evaluate"):
        parts = {split: (gathered.split(split), part_of(data, split)) for split in MEASURED}
        told = {split: head.logits(part.table.features) for split, (part, _) in parts.items() if len(part.manifest)}
        chosen = _thresholds(head, told.get("val"), parts["val"][1])
        head = head.with_thresholds(chosen)
        outputs = {split: task_outputs(head, told[split], parts[split][1], training) for split in told}
        scores = {
            split: evaluate_tasks(
                own, parts[split][0].manifest.items, split=split, seed=seed, thresholds=split == "val" and bool(chosen)
            )
            for split, own in outputs.items()
        }
    tell(next(iter(scores.values())), listener)
    notes = list(fitted.notes)
    if chosen and "val" not in told:
        notes.append("There is no validation part to choose thresholds on: a label applies from a probability of 0.5.")
    return replace(fitted, head=head, notes=notes), outputs, scores


def tell(scores: TaskScores, listener: Listener) -> None:
    """The numbers, for a terminal, in lines that fit it."""
    for sentence in scores.lines():
        for line in textwrap.wrap(sentence, _WIDTH, subsequent_indent="  ", break_long_words=False):
            listener.say(line)
    if scores.caution:
        listener.say(scores.caution)


def _thresholds(head: TaskHeads, told: NDArray[np.float64] | None, data: TaskData) -> dict[str, NDArray[np.float64]]:
    """The thresholds of each multilabel task: those of best F1 on the validation part, if there is one."""
    chosen = {}
    for part, target in zip(head.parts, data.targets, strict=True):
        if part.kind == "multilabel":
            none = np.zeros(len(part.classes))
            chosen[part.name] = none if told is None else choose_thresholds(told[:, head.slices()[part.name]], target)
    return chosen


def task_outputs(
    head: TaskHeads, told: NDArray[np.float64], data: TaskData, training: Sequence[NDArray[Any]]
) -> tuple[TaskOutputs, ...]:
    """What a model told of N images (N, outputs of all tasks), beside what is true of them, task by task.

    Args:
        head: the model's.
        told: its outputs.
        data: of these images.
        training: the targets of the training part.
    """
    slices = head.slices()
    return tuple(
        TaskOutputs(part.name, part.kind, part.classes, part.thresholds, told[:, slices[part.name]], truth, learnt)
        for part, truth, learnt in zip(head.parts, data.targets, training, strict=True)
    )
