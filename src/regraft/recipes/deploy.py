"""From trained weights to a run: measured as any model is, compared with the probe, written."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.backbones.backbone import Backbone
from regraft.backbones.cards import sha256
from regraft.errors import RunExists
from regraft.features.frozen import features_of, frozen
from regraft.heads.calibration import temperature
from regraft.heads.head import Fitted
from regraft.inference.bundle_files import weights_name
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.gather import Gathered
from regraft.recipes.guard_head import guard_and_measure
from regraft.recipes.run import Finished, Run, command_line, write_run
from regraft.recipes.workplace import LOGS, resume_command, training_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from regraft.backbones.backbone import BackboneCard
    from regraft.features.frozen import Frozen
    from regraft.heads.head import Head
    from regraft.inference.guard import Guard
    from regraft.recipes.begun import Begun
    from regraft.recipes.course import Course
    from regraft.recipes.fit_head import Outcome
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained


def finish(begun: Begun, course: Course, engine: Engine, trained: Trained, probe: Fitted, folder: Path) -> Run:
    """Measure the best weights as any model is measured, compare with the probe, and write the run."""
    backbones, gathered, fitted, plain = _deployable(begun, course, trained, folder)
    kept, comparison = _compare(begun, trained, gathered, plain, probe, course.settings.metric)
    begun.listener.say(comparison)
    notes = (*begun.notes, comparison, *caution(begun))
    if kept == begun.plan.name:
        measured = gathered
    else:
        backbones, fitted, measured = begun.backbones, probe, begun.gathered
    refit = None if kept == begun.plan.name else "linear-probe"
    asked = SimpleNamespace(**begun.options)
    guard, outcome = guard_and_measure(measured, fitted, refit, asked, notes, begun.clock, begun.listener)
    if begun.options["tensorboard"]:
        _draw_confusion(folder, outcome, trained)
    return _write(begun, course, engine, trained, outcome, backbones, measured, kept, folder, guard)


def _write(
    begun: Begun,
    course: Course,
    engine: Engine,
    trained: Trained,
    outcome: Outcome,
    backbones: tuple[Frozen, ...],
    measured: Gathered,
    kept: str,
    folder: Path,
    guard: Guard,
) -> Run:
    from regraft.recipes.frozen_run import frozen_bundle, unfilled

    bundle = frozen_bundle(measured, backbones, outcome, STRATEGIES[kept], guard)
    finished = Finished(
        begun.name,
        facts_of(begun, course, backbones, kept),
        begun.gathered,
        outcome.fitted,
        outcome.predictions,
        outcome.evaluations,
        (*unfilled(backbones), *outcome.notes),
        measured=measured,
        epochs=tuple(trained.progress.history),
        training=folder,
        engine=engine_facts(engine, trained),
        leaderboard=begun.leaderboard,
        guard=guard,
    )
    with kept_meanwhile(begun):
        return write_run(finished, begun.target, bundle, backbones, begun.clock, overwrite=begun.options["overwrite"])


def facts_of(begun: Begun, course: Course, backbones: tuple[Frozen, ...], kept: str) -> dict[str, Any]:
    """What config.json says of the run, `kept` being the strategy whose result it is."""
    from regraft.recipes.frozen_run import joined_name
    from regraft.recipes.train import train

    return {
        "command": begun.command or command_line(train, {**begun.options, "run": begun.target}),
        "options": {**course.resolved, "run": begun.options["run"]},
        "strategy": kept,
        "asked_strategy": begun.plan.name,
        "backbone": joined_name(backbones),
        "selection": begun.plan.selection,
    }


def engine_facts(engine: Engine, trained: Trained) -> dict[str, str]:
    """How the training ran, for the report."""
    return {
        "training precision": f"{engine.precision} ({engine.why})",
        "training processes": str(engine.world),
        "training ended": trained.progress.finished,
    }


@contextlib.contextmanager
def kept_meanwhile(begun: Begun) -> Iterator[None]:
    """Say where the trained weights are when the run's folder has been taken meanwhile."""
    try:
        yield
    except RunExists as error:
        raise RunExists(
            f"{error} The trained weights are kept in {training_folder(begun.target)}: move the other run away and go"
            f" on with {resume_command(begun.target)}"
        ) from error


def _deployable(
    begun: Begun, course: Course, trained: Trained, folder: Path
) -> tuple[tuple[Frozen, ...], Gathered, Fitted, Head]:
    """The trained network as frozen backbones, features to measure it on, its head, and that before a temperature."""
    from regraft.models.heads import to_head

    backbones = frozen_again(begun, course, trained, folder)
    gathered = features_again(begun, backbones)
    val = gathered.split("val")
    targets = np.array(val.manifest.targets(), np.int64)
    present = np.flatnonzero(np.bincount(course.train.targets, minlength=len(gathered.manifest.classes)))
    plain = to_head(course.model.head, len(gathered.manifest.classes), present)
    heat = temperature(plain.logits(val.table.features), targets)
    head = to_head(course.model.head, len(gathered.manifest.classes), present, heat)
    best = {"best_epoch": trained.best["epoch"], "temperature": heat}
    return backbones, gathered, Fitted(head, chosen={**course.chosen, **best}), plain


def frozen_again(begun: Begun, course: Course, trained: Trained, folder: Path) -> tuple[Frozen, ...]:
    """The best weights put into the model, and its backbones as ones to extract with; what was frozen is as it was."""
    from regraft.models.joint import branches_of
    from regraft.models.lora import merge_lora

    model = course.model.to("cpu")
    model.load_state_dict(trained.weights)
    model.eval()
    trunk = merge_lora(model.backbone) if begun.plan.name == "lora" else model.backbone
    with begun.clock.phase("backbone"):
        return tuple(
            begun.backbones[n] if n in course.frozen else _one_frozen(begun, course.cards[n], module, n, folder)
            for n, module in enumerate(branches_of(trunk))
        )


def _one_frozen(begun: Begun, card: BackboneCard, module: nn.Module, position: int, folder: Path) -> Frozen:
    from safetensors.torch import save_file

    name = weights_name(position)
    state = {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}
    save_file(state, folder / name)
    digest = sha256(folder / name)
    card = replace(
        card,
        weights=f"{card.weights}, trained by {begun.plan.name}" if begun.plan.name != "scratch" else "scratch",
        weights_file=str((begun.target / "bundle" / name).absolute()),
        weights_sha256=digest,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )
    build = partial(Backbone, card, module)
    return frozen(card, build, begun.cache, runtime=begun.options["runtime"], state_sha256=digest)


def features_again(begun: Begun, backbones: tuple[Frozen, ...]) -> Gathered:
    """Features by the trained networks of the images that nothing was learnt from."""
    manifest = begun.gathered.manifest
    items = tuple(item for item in manifest.items if item.split != "train")
    with begun.clock.phase("inference"):
        found = features_of(
            items,
            backbones,
            begun.cache,
            max_pixels=begun.options["max_pixels"],
            on_progress=begun.listener.progress,
        )
    return Gathered(
        replace(manifest, items=found.items), found.table, begun.gathered.rejected, found, blocks=begun.gathered.blocks
    )


def _compare(
    begun: Begun, trained: Trained, gathered: Gathered, plain: Head, probe: Fitted, metric: str
) -> tuple[str, str]:
    """Which result to keep, and a sentence that says how they compare on the validation images.

    Heads are compared as they were learnt, before a temperature is found on these same images.
    """
    from regraft.training.validation import METRICS, measure

    values = []
    for part, head in ((gathered, plain), (begun.gathered, probe.head)):
        val = part.split("val")
        logits = head.logits(val.table.features).astype(np.float32)
        values.append(measure(logits, np.array(val.manifest.targets(), np.int64))[metric])
    name, (own, other) = begun.plan.name, values
    told = (
        f"validation {metric.replace('_', ' ')}: {name} {own:.4f} (epoch {trained.best['epoch']}), linear probe on the"
        f" frozen backbone {other:.4f}"
    )
    if own != trained.best[f"val_{metric}"] and metric != "loss":
        told += f" (while training, in another precision, {trained.best[f'val_{metric}']:.4f})"
    if name == "scratch":
        return name, told
    reason = "the probe does better"
    if trained.best["step"] == 0:
        reason = "training did not improve on the probe"
    elif METRICS[metric] * own >= METRICS[metric] * other:
        return name, told
    if begun.options["force"]:
        return name, f"{told}: {reason}, {name} is kept because of --force"
    return "linear-probe", f"{told}: {reason}, which is kept as the result (--force keeps {name})"


def caution(begun: Begun) -> tuple[str, ...]:
    """What is to be said where the numbers are of the images that the best epoch was chosen by."""
    if "test" in begun.gathered.manifest.split_sizes():
        return ()
    said = (
        "The best epoch was chosen on the validation images, and the numbers are of the same images, as there is no"
        " test part: they are a little too good."
    )
    return (said,)


def _draw_confusion(folder: Path, outcome: Outcome, trained: Trained) -> None:
    from regraft.training.tensorboard import open_writer

    evaluation = next(iter(outcome.evaluations.values()))
    writer = open_writer(folder / LOGS)
    writer.confusion(evaluation.confusion, evaluation.classes, trained.progress.step)
    writer.close()
