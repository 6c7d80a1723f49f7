"""The run of a change model: the files of `run`, with pairs in the place of images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.atomic import write_text
from regraft.data.manifest import csv_text
from regraft.evaluation.change_scores import evaluate_change
from regraft.inference.change.bundle import write_change_bundle
from regraft.inference.change.scene import classes_of
from regraft.recipes.change_measure import look
from regraft.recipes.run import Run, take_training, versions, write_json, write_named_folder, write_skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from regraft.data.pairs import Pair
    from regraft.evaluation.change_scores import ChangeEvaluation
    from regraft.evaluation.report.change import Tile
    from regraft.inference.change.bundle import ChangeBundle
    from regraft.recipes.change_data import PairData
    from regraft.recipes.change_measure import Measured
    from regraft.recipes.listen import Clock, Listener


_BARELY = 1.02  # times what a constant answer gives


@dataclass(frozen=True)
class FinishedChange:
    """Everything that a run is written from.

    Attributes:
        name: of the run.
        facts: for config.json.
        data: the pairs.
        bundle: the model.
        measured: by split, the headline's first.
        tell: two dates -> probabilities, for the pictures.
        notes: sentences for the report.
        chosen: what was decided, for the report.
        epochs: the history of the training.
        training: its folder, from which options and logs are taken; None where nothing was trained.
        engine: how it ran, for the report.
        seen: by split, how many of the pairs were in the model's training part.
        chosen_on: the split on which the threshold was chosen, or "".
        seed: of the intervals.
    """

    name: str
    facts: dict[str, Any]
    data: PairData
    bundle: ChangeBundle
    measured: dict[str, Measured]
    tell: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]]
    notes: tuple[str, ...] = ()
    chosen: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[dict[str, Any], ...] = ()
    training: Path | None = None
    engine: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    chosen_on: str = "val"
    seed: int = 0


def write_change_run(
    done: FinishedChange,
    target: Path,
    state: Mapping[str, Tensor] | None,
    clock: Clock,
    listener: Listener,
    *,
    overwrite: bool,
) -> Run:
    """Write everything into a folder that appears complete or not at all.

    Args:
        done: what it is written from.
        target: the folder.
        state: of the network, for the bundle; None writes none.
        clock: counts the time.
        listener: is told the headline.
        overwrite: replace a run that is there.
    """
    clock.import_now("regraft.evaluation.report.change", "jinja2")
    evaluations = {
        split: evaluate_change(
            [pair.name for pair in own.pairs],
            own.counts,
            done.bundle.classes,
            done.bundle.threshold,
            split=split,
            seed=done.seed,
            seen=done.seen.get(split, 0),
            chosen_here=split == done.chosen_on,
        )
        for split, own in done.measured.items()
    }
    for evaluation in evaluations.values():
        listener.say(evaluation.sentence())
        if evaluation.scores["f1"] <= evaluation.baseline * _BARELY:
            listener.warn("the model finds changes no better than calling everything changed: it has learnt nothing")
    target, metrics = write_named_folder(
        lambda folder: _fill(folder, done, state, evaluations, clock),
        done.name,
        target,
        given=done.facts["options"].get("run") is not None,
        overwrite=overwrite,
    )
    return Run(target, metrics, next(iter(evaluations.values())))


def _fill(
    folder: Path,
    done: FinishedChange,
    state: Mapping[str, Tensor] | None,
    evaluations: dict[str, ChangeEvaluation],
    clock: Clock,
) -> dict[str, Any]:
    pairs, bundle = done.data.pairs, done.bundle
    numbers = {split: evaluation.to_json() for split, evaluation in evaluations.items()}
    shared = {"manifest_sha256": pairs.sha256(), "classes": list(bundle.classes), "versions": versions()}
    with clock.phase("write"):
        pairs.write(folder / "manifest.csv")
        write_skipped(folder / "rejected.csv", done.data.rejected)
        write_skipped(folder / "skipped.csv", pairs.skipped)
        write_text(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in done.epochs))
        write_text(folder / "predictions.csv", _predictions_csv(evaluations))
        if done.training is not None:
            take_training(done.training, folder)
        if state is not None:
            facts = {**bundle.facts, **shared, "metrics": numbers}
            write_change_bundle(replace(bundle, facts=facts), folder / "bundle", state)
        write_json(
            folder / "config.json", {**done.facts, **shared, "data": pairs.source, "split_note": pairs.split_note}
        )
    _write_report(folder / "report.html", done, evaluations, clock)
    metrics = {
        **next(iter(numbers.values())),
        "strategy": done.facts["strategy"],
        "backbone": done.facts["backbone"],
        "model": bundle.network,
        "chosen": done.chosen,
        "evaluations": numbers,
        "pairs": len(pairs),
        "rejected": len(done.data.rejected),
        "skipped": len(pairs.skipped),
        "seconds": clock.rounded(),
    }
    write_json(folder / "metrics.json", metrics)
    return metrics


def _predictions_csv(evaluations: dict[str, ChangeEvaluation]) -> str:
    """Every measured pair: its labelled pixels, what was found, what is false, what was missed."""
    header = ["name", "split", "pixels", "found", "false", "missed", "f1", "iou"]
    rows = [
        [one.name, split, *map(str, (one.pixels, one.found, one.false, one.missed)), _cell(one.f1), _cell(one.iou)]
        for split, evaluation in evaluations.items()
        for one in evaluation.per_pair
    ]
    return csv_text(header, rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _write_report(target: Path, done: FinishedChange, evaluations: dict[str, ChangeEvaluation], clock: Clock) -> None:
    from regraft.evaluation.report.change import ChangeReport, render_change_report, tiles_to_show

    pairs = done.data.pairs
    split, headline = next(iter(evaluations.items()))
    by_name = {pair.name: pair for pair in done.measured[split].pairs}
    worst, best = tiles_to_show(headline)
    with clock.phase("report"):
        report = ChangeReport(
            title=done.name,
            command=done.facts["command"],
            evaluation=headline,
            worst=tuple(_tile(done, by_name[name]) for name in worst),
            best=tuple(_tile(done, by_name[name]) for name in best),
            others=tuple(one for name, one in evaluations.items() if name != split),
            split_sizes=pairs.split_sizes(),
            split_note=pairs.split_note,
            threshold_note="It was chosen for the best F1 on the validation pairs.",
            selection=done.facts["selection"],
            chosen=done.chosen,
            notes=done.notes,
            skipped=pairs.skipped,
            rejected=done.data.rejected,
            timings=clock.rounded(),
            environment=versions() | {"network": done.bundle.network} | done.engine,
            backbones=(done.bundle.card,),
            epochs=done.epochs,
        )
        write_text(target, render_change_report(report))


def _tile(done: FinishedChange, pair: Pair) -> Tile:
    """A pair as the report shows it."""
    from regraft.evaluation.report.change import Tile
    from regraft.evaluation.report.change_pictures import picture_limits, to_picture

    before, after, truth = look(pair, done.data.coding, done.facts["options"]["max_pixels"])
    told = done.tell(before, after)
    predicted = classes_of(told, done.bundle.threshold)
    eight = before.dtype == np.uint8 and before.shape[-1] == 3  # noqa: PLR2004
    limits = None if eight else picture_limits(before, after)
    first, second = (to_picture(one, None, limits) for one in (before, after))
    return Tile(pair.name, first, second, truth, predicted)
