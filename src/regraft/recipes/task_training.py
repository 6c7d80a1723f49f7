"""Several tasks taught to the network at once: one trunk, a head for each, told beside the task's own frozen head."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.task_table import split_tasks
from regraft.heads.calibration import temperature
from regraft.heads.head import Fitted
from regraft.heads.tasks import TaskHeads
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.deploy import caution, engine_facts, facts_of, features_again, frozen_again, kept_meanwhile
from regraft.recipes.fine_tune import fine_tune
from regraft.recipes.fit_head import Outcome
from regraft.recipes.goal import Goal, Matter
from regraft.recipes.listen import Listener
from regraft.recipes.run import Finished, Run
from regraft.recipes.task_goal import apart, columns_of, mean_score, task_score, tasks_goal
from regraft.recipes.tasks import fit_tasks, measure_tasks, task_bundle, tell
from regraft.recipes.tasks_data import part_of
from regraft.recipes.tasks_run import FinishedTasks, write_task_run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from regraft.data.manifest import Manifest
    from regraft.data.task_table import TaskData
    from regraft.heads.head import Head
    from regraft.recipes.begun import Begun
    from regraft.recipes.course import Course
    from regraft.recipes.gather import Gathered
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained


def fine_tune_tasks(begun: Begun, data: TaskData, engine: Engine | None) -> Run:
    """Train the network on several tasks at once and leave a run.

    Args:
        begun: what `train` found; its images are those of `data`.
        data: what is known of them.
        engine: where several processes train; None: this one alone.

    Raises:
        RegraftError: as `train`.
    """
    return fine_tune(
        begun,
        engine,
        Matter(
            partial(_divide, data),
            partial(_probe, data),
            partial(_goal, data),
            partial(_finish, data),
            partial(_identity, data),
        ),
    )


def _divide(data: TaskData, manifest: Manifest, share: float, seed: int) -> Manifest:
    return split_tasks(data.of(manifest), seed=seed, val=share, test=0.0, resplit=True).manifest


def _probe(data: TaskData, begun: Begun) -> Fitted:
    own = data.of(begun.gathered.manifest)
    return fit_tasks(
        begun.gathered, own, STRATEGIES["linear-probe"], begun.options["seed"], begun.clock, begun.listener
    )


def _goal(data: TaskData, begun: Begun, probe: Fitted) -> Goal:
    start = probe.head if begun.plan.name == "lp-ft" else None
    assert start is None or isinstance(start, TaskHeads)
    return tasks_goal(SimpleNamespace(**begun.options), data.of(begun.gathered.manifest), start)


def _identity(data: TaskData, manifest: Manifest) -> str:
    cells = repr([*data.tasks, *data.of(manifest).cells])
    return hashlib.sha256(f"{manifest.sha256()} {cells}".encode("utf-8", "surrogateescape")).hexdigest()


def _finish(
    data: TaskData, begun: Begun, course: Course, engine: Engine, trained: Trained, probe: Fitted, folder: Path
) -> Run:
    """Measure the best weights as any model is measured, compare with the frozen heads, and write the run."""
    from regraft.recipes.frozen_run import frozen_bundle, unfilled

    data = data.of(begun.gathered.manifest)
    backbones = frozen_again(begun, course, trained, folder)
    measured = features_again(begun, backbones)
    fitted, plain = _heads(course, trained, measured, data)
    kept, comparison = _compare(begun, trained, data, (measured, plain), (begun.gathered, probe.head))
    begun.listener.say(comparison)
    if kept != begun.plan.name:
        backbones, fitted, measured = begun.backbones, probe, begun.gathered
    seed = begun.options["seed"]
    fitted, outputs, scores = measure_tasks(measured, data, fitted, seed, begun.clock, Listener())
    for split, own in scores.items():
        alone = _scores(begun.gathered, probe.head, part_of(data, split), split)
        scores[split] = replace(own, tasks=tuple(replace(task, alone=alone.get(task.name)) for task in own.tasks))
    tell(next(iter(scores.values())), begun.listener)
    notes = (*unfilled(backbones), *begun.notes, comparison, *caution(begun), *fitted.notes)
    plan = STRATEGIES[kept]
    bundle = task_bundle(frozen_bundle(measured, backbones, Outcome(fitted, {}, {}, ()), plan), data.tasks)
    finished = Finished(
        begun.name,
        facts_of(begun, course, backbones, kept),
        begun.gathered,
        fitted,
        {},
        {},
        notes,
        measured=measured,
        epochs=tuple(trained.progress.history),
        training=folder,
        engine=engine_facts(engine, trained),
    )
    done = FinishedTasks(finished, data, outputs, scores)
    with kept_meanwhile(begun):
        return write_task_run(done, begun.target, bundle, backbones, begun.clock, overwrite=begun.options["overwrite"])


def _heads(course: Course, trained: Trained, measured: Gathered, data: TaskData) -> tuple[Fitted, TaskHeads]:
    """The trained heads with temperatures found on the validation images, and without."""
    from regraft.models.heads import to_head

    columns = columns_of(part_of(data, "train"))
    outputs = columns[-1].where.stop
    plain = apart(to_head(course.model.head, outputs, np.arange(outputs)), columns)
    val = part_of(data, "val")
    told = plain.logits(measured.split("val").table.features)
    heats = {}
    for part, own, targets in zip(plain.parts, columns, val.targets, strict=True):
        if part.kind == "classes" and (targets >= 0).any():
            known = targets >= 0
            heats[part.name] = temperature(told[known, own.where], targets[known])
    chosen = {**course.chosen, "best_epoch": trained.best["epoch"], "temperature": heats}
    warmed = apart(to_head(course.model.head, outputs, np.arange(outputs)), columns, heats)
    return Fitted(warmed, chosen=chosen), plain


def _scores(gathered: Gathered, head: Head, part: TaskData, split: str) -> dict[str, float]:
    """The score of each task that can be measured on a split."""
    assert isinstance(head, TaskHeads)
    features = gathered.split(split).table.features
    if not len(features):
        return {}
    told: NDArray[np.float64] = head.logits(features)
    slices = head.slices()
    scores = {
        task.name: task_score(task, told[:, slices[task.name]], targets)
        for task, targets in zip(part.tasks, part.targets, strict=True)
    }
    return {name: score for name, score in scores.items() if score is not None}


def _compare(
    begun: Begun, trained: Trained, data: TaskData, own: tuple[Gathered, Head], other: tuple[Gathered, Head]
) -> tuple[str, str]:
    """Which result to keep, and a sentence that says how they compare by their mean score on the validation images."""
    val = part_of(data, "val")
    ours, theirs = (_scores(gathered, head, val, "val") for gathered, head in (own, other))
    name, mean, base = begun.plan.name, mean_score(ours), mean_score(theirs)
    each = ", ".join(f"{task} {ours[task]:.4f} ({theirs[task]:.4f})" for task in ours)
    told = (
        f"validation score, mean over the tasks: {name} {mean:.4f} (epoch {trained.best['epoch']}), linear heads on the"
        f" frozen backbone {base:.4f}; {each}"
    )
    if name == "scratch" or (mean >= base and trained.best["step"] > 0):
        return name, told
    reason = "the frozen heads do better" if trained.best["step"] else "training did not improve on the frozen heads"
    if begun.options["force"]:
        return name, f"{told}: {reason}, {name} is kept because of --force"
    return "linear-probe", f"{told}: {reason}, which are kept as the result (--force keeps {name})"
