"""The run of a model with several tasks: the files of `run`, with what each task needs in them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.data.manifest import SPLITS, csv_text
from regraft.inference.task_answers import SEPARATOR, answer, distinct
from regraft.recipes.run import (
    Finished,
    Run,
    decode_notes,
    environment,
    write_folder,
    write_metrics,
    write_parts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from regraft.data.manifest import Manifest
    from regraft.data.task_table import TaskData
    from regraft.evaluation.task_scores import TaskOutputs, TaskScores
    from regraft.features.frozen import Frozen
    from regraft.inference.bundle import Bundle
    from regraft.recipes.listen import Clock


@dataclass(frozen=True)
class FinishedTasks:
    """Everything that a run of several tasks is written from.

    Attributes:
        finished: as of one task; its predictions and evaluations are empty.
        data: the images of `finished.gathered` and what is true of them.
        outputs: by split, what each task was told, the headline's first.
        scores: likewise, the numbers.
    """

    finished: Finished
    data: TaskData
    outputs: dict[str, tuple[TaskOutputs, ...]]
    scores: dict[str, TaskScores]


def write_task_run(
    done: FinishedTasks,
    target: Path,
    bundle: Bundle | None,
    backbones: Sequence[Frozen],
    clock: Clock,
    *,
    overwrite: bool,
) -> Run:
    """Write everything into a folder that appears complete or not at all, see `run.write_run`."""
    clock.import_now("regraft.evaluation.report.tasks", "jinja2")
    target, metrics = write_folder(
        lambda folder: _fill(folder, done, bundle, backbones, clock), done.finished, target, overwrite=overwrite
    )
    return Run(target, metrics, next(iter(done.scores.values())))


def _fill(
    folder: Path, done: FinishedTasks, bundle: Bundle | None, backbones: Sequence[Frozen], clock: Clock
) -> dict[str, Any]:
    evaluations = {split: scores.to_json() for split, scores in done.scores.items()}
    shared = {"manifest_sha256": _sha256(done.data), "tasks": [task.to_json() for task in done.data.tasks]}
    with clock.phase("write"):
        write_text(folder / "manifest.csv", done.data.to_csv())
        write_text(folder / "predictions.csv", _predictions_csv(done))
        write_parts(folder, done.finished, bundle, backbones, shared, evaluations)
    _write_report(folder / "report.html", done, backbones, clock)
    return write_metrics(folder, done.finished, evaluations, clock)


def _sha256(data: TaskData) -> str:
    """A hash of images, splits, tasks and cells, not of where files lie."""
    rows = sorted(
        "\x1f".join(
            [item.key or item.path, item.split or "", item.group or "", *(cell for row in cells for cell in row)]
        )
        for item, cells in zip(data.manifest.items, data.cells, strict=True)
    )
    tasks = json.dumps([task.to_json() for task in data.tasks])
    return hashlib.sha256("\x1e".join([tasks, *rows]).encode("utf-8", "surrogateescape")).hexdigest()


def _predictions_csv(done: FinishedTasks) -> str:
    """Every image that was measured: for each task what is true, what was told, and how probable it is."""
    header, rows = ["path", "split"], []
    for task in next(iter(done.outputs.values())):
        names = _numbers_of(task) if task.kind == "regression" else [task.name]
        for name in names:
            header += [name, f"{name}_predicted", *([f"{name}_probability"] if task.kind == "classes" else [])]
    for split, tasks in done.outputs.items():
        items = done.data.manifest.split(split).items if split in SPLITS else done.data.manifest.items
        columns = [_cells(task) for task in tasks]
        for item, *cells in zip(items, *columns, strict=True):
            rows.append([item.path, split, *(cell for own in cells for cell in own)])
    return csv_text(distinct(header), rows)


def _numbers_of(task: TaskOutputs) -> list[str]:
    return [task.name] if len(task.classes) == 1 else list(task.classes)


def _cells(task: TaskOutputs) -> list[list[str]]:
    """For each image the cells of one task; what is not known is empty, and "|" means that no label applies."""
    said = answer(task, task.outputs)
    if task.kind == "regression":
        return [
            [text for pair in zip(truth, one.numbers.values(), strict=True) for text in map(_number, pair)]
            for truth, one in zip(task.targets.tolist(), said, strict=True)
        ]
    if task.kind == "classes":
        names = [*task.classes, ""]  # -1 is the last
        return [
            [names[truth], str(one.label), f"{one.probability:.6f}"]
            for truth, one in zip(task.targets.tolist(), said, strict=True)
        ]
    return [
        [_listed(task, truth), SEPARATOR.join(one.labels) or SEPARATOR]
        for truth, one in zip(task.targets.tolist(), said, strict=True)
    ]


def _listed(task: TaskOutputs, truth: list[int]) -> str:
    if max(truth) < 0:
        return ""
    return SEPARATOR.join(name for name, has in zip(task.classes, truth, strict=True) if has == 1) or SEPARATOR


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.8g}"


def _write_report(target: Path, done: FinishedTasks, backbones: Sequence[Frozen], clock: Clock) -> None:
    from regraft.evaluation.report.tasks import TaskReport, render_tasks

    finished = done.finished
    gathered, found, fitted = finished.gathered, finished.gathered.extraction, finished.fitted
    split, scores = next(iter(done.scores.items()))
    manifest = done.data.manifest
    with clock.phase("report"):
        report = TaskReport(
            title=finished.name,
            command=finished.facts["command"],
            scores=scores,
            outputs=done.outputs[split],
            items=manifest.split(split).items if split in SPLITS else manifest.items,
            others=tuple(other for name, other in done.scores.items() if name != split),
            split_note=_split_note(manifest),
            selection=finished.facts["selection"],
            chosen={} if fitted is None else {name: _short(own) for name, own in fitted.chosen.items()},
            notes=finished.notes,
            left_out=finished.left_out,
            from_file=found is None,
            skipped=manifest.skipped,
            rejected=gathered.rejected,
            decode_notes=decode_notes(gathered),
            timings=clock.rounded(),
            environment=environment(backbones, finished.measured or gathered) | finished.engine,
            backbones=tuple(one.card for one in backbones),
            epochs=finished.epochs,
        )
        write_text(target, render_tasks(report))


def _short(setting: Any) -> str:
    """The settings that were chosen for a task, without those of each fold and of each label."""
    from regraft.evaluation.report.text import value_text

    if not isinstance(setting, dict):
        return value_text(setting)
    told = {name: value for name, value in setting.items() if not isinstance(value, list | dict) or len(value) == 1}
    return value_text({name.replace("_", " "): value for name, value in told.items()})


def _split_note(manifest: Manifest) -> str:
    """How the splits came about, and their sizes, which are in the words on those that were made."""
    sizes = ", ".join(f"{split} {size:,}" for split, size in manifest.split_sizes().items())
    return manifest.split_note if sizes in manifest.split_note or not sizes else f"{manifest.split_note}: {sizes}"
