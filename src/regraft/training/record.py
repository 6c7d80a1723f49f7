"""What is seen of a training while it runs: evaluations, the history, lines and logs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from regraft.atomic import write_text
from regraft.training import average as averages
from regraft.training.validation import is_better, logits_of

if TYPE_CHECKING:
    from regraft.training.plan import Phase, Planned, Session


_EVAL_BATCH = 32  # smaller ones are slower; but pictures with an answer for each pixel need memory


def evaluate(run: Session, planned: Planned, phase: Phase) -> None:
    """Judge the weights on the validation images and add a row to the history."""
    progress, settings = run.progress, run.settings
    with averages.using(run.average, run.model):
        logits = logits_of(
            run.model,
            phase.val,
            phase.prepare,
            run.engine,
            batch=settings.batch if run.digest is not None else max(_EVAL_BATCH, settings.batch),
            workers=settings.workers,
            digest=run.digest,
        )
        found = run.judge(logits, phase.val.targets)
        better = is_better(
            settings.metric, found[settings.metric], None if progress.best is None else progress.best["value"]
        )
        if better:
            run.best_weights = averages.start_average(run.model)
    run.model.train()
    tick(run)
    images, seconds = progress.sums["images"], run.seconds
    row: dict[str, Any] = {
        "epoch": progress.epoch,
        "step": progress.step,
        "phase": planned.name,
        **{"lr" if where == "backbone" else f"{where}_lr": rate for where, rate in rates_now(run.optimiser).items()},
        **{f"train_{n}": total / images if images else None for n, total in progress.sums.items() if n != "images"},
        **{f"val_{name}": value for name, value in found.items()},
        "seconds": round(seconds, 3),
        "images_per_second": round((images + len(phase.val)) / max(seconds, 1e-9), 1),
        "best": better,
    }
    progress.sums = dict.fromkeys(progress.sums, 0.0)
    run.seconds = 0.0
    progress.waited = 0 if better else progress.waited + 1
    if better:
        progress.best = {"step": progress.step, "epoch": progress.epoch, "value": found[settings.metric]}
    progress.history.append(row)
    _tell(run, row)
    if settings.patience and progress.waited >= settings.patience and run.last:
        progress.finished = f"no better {settings.metric} for {progress.waited} evaluations"


def rates_now(optimiser: Any) -> dict[str, float]:
    """The highest rate in the backbone and in the head, as they are now."""
    found: dict[str, float] = {}
    for group in optimiser.param_groups:
        found[group["where"]] = max(group["lr"], found.get(group["where"], 0.0))
    return found


def _tell(run: Session, row: dict[str, Any]) -> None:
    """A row for the user, the history file and TensorBoard."""
    progress, place = run.progress, run.place
    if run.engine.rank == 0:
        with (place.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    left = (run.total - progress.step) * progress.elapsed / max(1, progress.step)
    learnt = "" if row["train_loss"] is None else f"loss {row['train_loss']:.3f}, "
    shown = next(name for name in ("f1", "accuracy", "score") if f"val_{name}" in row)
    place.say(
        f"  epoch {progress.epoch}, step {progress.step} of {run.total} ({row['phase']}): {learnt}"
        f"val loss {row['val_loss']:.3f}, val {shown} {row[f'val_{shown}']:.4f}{' (best)' if row['best'] else ''};"
        f" {row['images_per_second']:.0f} images/s, {in_words(left)} left"
    )
    if place.writer is not None:
        values = {f"val/{k.removeprefix('val_')}": v for k, v in row.items() if k.startswith("val_")}
        place.writer.scalars({**values, "speed/images_per_second": row["images_per_second"]}, progress.step)


def in_words(seconds: float) -> str:
    """A duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def tick(run: Session) -> None:
    """Count the time that passed."""
    now = time.perf_counter()
    run.progress.elapsed += now - run.ticked
    run.seconds += now - run.ticked
    run.ticked = now


def write_history(run: Session) -> None:
    """The history up to here: rows of steps that a kill undid are gone."""
    if run.engine.rank == 0:
        rows = "".join(json.dumps(row) + "\n" for row in run.progress.history)
        write_text(run.place.folder / "history.jsonl", rows)
