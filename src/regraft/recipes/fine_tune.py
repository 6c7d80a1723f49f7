"""Strategies that train the network: first a linear probe, then the loop, then the measurement that all models get."""

from __future__ import annotations

import inspect
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.backbones.backbone import Backbone
from regraft.backbones.cards import sha256
from regraft.backbones.files import warnings
from regraft.data.splits import make_splits
from regraft.errors import OptionError, RunExists
from regraft.features.extract import extract
from regraft.features.frozen import frozen
from regraft.features.store import cache_folder, usable_cache
from regraft.heads.calibration import temperature
from regraft.heads.head import Fitted
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.config import write_config
from regraft.recipes.course import make_course
from regraft.recipes.fit_head import fit_head, measure_head
from regraft.recipes.gather import Gathered
from regraft.recipes.listen import Clock
from regraft.recipes.run import Finished, Run, command_line, write_run
from regraft.recipes.workplace import CONFIG, LOGS, start, training_folder

if TYPE_CHECKING:
    from regraft.features.frozen import Frozen
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.course import Course
    from regraft.recipes.fit_head import Outcome
    from regraft.recipes.listen import Listener
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained
    from regraft.training.state import State
    from regraft.training.tensorboard import Writer

_VAL_SHARE = 0.15
_SHOWN = 16
_WEIGHTS = "backbone.safetensors"


@dataclass(frozen=True)
class Start:
    """What `train` found before the network is trained.

    Attributes:
        options: of `train`.
        plan: the strategy.
        gathered: the images with features of the pretrained backbone.
        ready: that backbone.
        cache: the cache folder.
        target: where the run will be.
        name: the run's name.
        notes: sentences about the data.
        resume: the folder of an interrupted training, or None.
        clock: counts the time.
        listener: is told what happens.
    """

    options: dict[str, Any]
    plan: Strategy
    gathered: Gathered
    ready: Frozen
    cache: Path
    target: Path
    name: str
    notes: tuple[str, ...]
    resume: Path | None
    clock: Clock
    listener: Listener


def fine_tune(begun: Start, engine: Engine | None) -> Run:
    """Train the network and leave a run.

    Raises:
        RegraftError: as `train`.
    """
    from regraft.recipes.train import train

    asked = SimpleNamespace(**begun.options)
    begun.clock.import_now("torch", "lightning_fabric")
    from regraft.training.engine import start_engine

    engine = engine or start_engine(asked.precision)
    begun, aside = _with_validation(begun)
    probe = _probe(begun)
    course = _course(begun, engine, probe)  # before anything is written: options may be wrong
    folder, state, target = _workplace(begun, engine)
    begun = replace(begun, target=target, notes=(*begun.notes, *aside, *course.notes))
    if engine.rank == 0 and begun.resume is None:
        write_config(folder / CONFIG, train, {**course.resolved, "run": target, "config": None, "resume": None})
    trained = _run_loop(begun, course, engine, folder, state)
    if engine.rank > 0:
        return engine.fabric.broadcast(None)  # type: ignore[no-any-return]
    run = _finish(begun, course, engine, trained, probe, folder)
    shutil.rmtree(folder, ignore_errors=True)
    if engine.world > 1:
        engine.fabric.broadcast(run)
    return run


def prepare(options: dict[str, Any], listener: Listener) -> tuple[Course, Engine]:
    """What the loop would be given for these options of `train` (the rest at their defaults); nothing is trained.

    Raises:
        RegraftError: as `train`.
    """
    from regraft.recipes.train import check, gather_parts, source_of, train

    defaults = {name: p.default for name, p in inspect.signature(train).parameters.items() if name != "listener"}
    whole = {**defaults, **options}
    asked, plan, clock = SimpleNamespace(**whole), find_strategy(whole["strategy"]), Clock.start(listener)
    own = check(asked, whole, plan)
    cache = usable_cache(cache_folder())
    ready, gathered = gather_parts(asked, plan, source_of(asked), own, cache, clock, listener)
    assert ready is not None
    begun = Start(whole, plan, gathered, ready, cache, Path(), "", (), None, clock, listener)
    begun, _ = _with_validation(begun)
    from regraft.training.engine import start_engine

    engine = start_engine(asked.precision)
    return _course(begun, engine, _probe(begun)), engine


def _course(begun: Start, engine: Engine, probe: Fitted) -> Course:
    return make_course(
        SimpleNamespace(**begun.options),
        begun.plan.name,
        begun.gathered.manifest,
        begun.ready,
        probe.head if begun.plan.name == "lp-ft" else None,  # type: ignore[arg-type]
        begun.cache,
        engine,
        begun.clock,
        begun.listener,
    )


def _with_validation(begun: Start) -> tuple[Start, tuple[str, ...]]:
    """Training chooses its best epoch by validation images; where there are none, some of train are set aside."""
    manifest = begun.gathered.manifest
    if "val" in manifest.split_sizes():
        return begun, ()
    part = make_splits(manifest.split("train"), seed=begun.options["seed"], val=_VAL_SHARE, test=0.0, resplit=True)
    split = {item.path: item.split for item in part.items}
    items = tuple(replace(item, split=split.get(item.path, item.split)) for item in manifest.items)
    count = sum(value == "val" for value in split.values())
    said = f"{count} of the training images were set aside, to choose the best epoch by"
    begun.listener.say(said)
    return replace(begun, gathered=replace(begun.gathered, manifest=replace(manifest, items=items))), (said,)


def _probe(begun: Start) -> Fitted:
    """The linear probe on the frozen features: where lp-ft starts from, and what the others must beat."""
    plan = STRATEGIES["linear-probe"]
    return fit_head(begun.gathered, plan, begun.options["seed"], begun.clock, begun.listener)


def _workplace(begun: Start, engine: Engine) -> tuple[Path, State | None, Path]:
    """The folder of this training, the state to go on from, and where the run will be, the same for all processes."""
    from regraft.training.state import newest

    target: Path = engine.fabric.broadcast(begun.target) if engine.world > 1 else begun.target
    folder = training_folder(target)
    if begun.resume is None:
        with engine.first_alone() as first:
            if first:
                start(target, overwrite=begun.options["overwrite"])
        return folder, None, target
    state, notes = newest(folder)
    for note in notes:
        begun.listener.warn(note)
    manifest = begun.gathered.manifest.sha256()
    if state is not None and state.facts["manifest_sha256"] != manifest:
        raise OptionError(
            f"resume {target}: the images or labels of {begun.gathered.manifest.source} have changed since this"
            " training began, so it cannot go on exactly. Put them back, or start again with --overwrite."
        )
    told = "from the beginning: no state was saved yet" if state is None else f"after step {state.facts['step']}"
    begun.listener.say(f"resuming {target} {told}")
    return folder, state, target


def _run_loop(begun: Start, course: Course, engine: Engine, folder: Path, state: State | None) -> Trained:
    from regraft.training.loop import fit
    from regraft.training.plan import Place

    writer = None
    if begun.options["tensorboard"] and engine.rank == 0:
        from regraft.training.tensorboard import open_writer

        writer = open_writer(folder / LOGS, done=0 if state is None else state.facts["step"])
        if state is None:
            _show_inputs(writer, course, begun)
    place = Place(
        folder=folder,
        facts={"manifest_sha256": begun.gathered.manifest.sha256()},
        names=lambda row: course.train.items[row].path,
        say=begun.listener.say,
        progress=begun.listener.progress,
        writer=writer,
        resume=f"regraft train --resume {begun.target}",
    )
    try:
        with begun.clock.phase("training"):
            return fit(
                course.model,
                course.objective,
                course.planned,
                course.settings,
                engine,
                place,
                images=len(course.train.items),
                resume=state,
            )
    finally:
        if writer is not None:
            writer.close()


def _show_inputs(writer: Writer, course: Course, begun: Start) -> None:
    """The first batch as the network will see it."""
    from regraft.training.augment import augmentation
    from regraft.training.batches import PixelExamples, training_batches

    augment = augmentation(course.resolved["augment"], begun.ready.card.preprocessing)
    examples = PixelExamples(course.train.pixels, course.train.targets, augment, course.settings.seed)
    batch = next(iter(training_batches(examples, batch=course.settings.batch, seed=course.settings.seed, epoch=0)))
    names = [begun.gathered.manifest.classes[int(target)] for target in batch.targets[:_SHOWN]]
    writer.inputs(batch.inputs[:_SHOWN], names, 0)


def _finish(begun: Start, course: Course, engine: Engine, trained: Trained, probe: Fitted, folder: Path) -> Run:
    """Measure the best weights as any model is measured, compare with the probe, and write the run."""
    ready, gathered, fitted = _deployable(begun, course, trained, folder)
    kept, comparison = _compare(begun, trained, gathered, fitted, probe, course.settings.metric)
    begun.listener.say(comparison)
    notes = (*begun.notes, comparison, *_caution(begun))
    if kept == begun.plan.name:
        measured = gathered
    else:
        ready, fitted, measured = begun.ready, probe, begun.gathered
    outcome = measure_head(measured, fitted, begun.options["seed"], begun.clock, begun.listener, notes)
    if begun.options["tensorboard"]:
        _draw_confusion(folder, outcome, trained)
    return _write(begun, course, engine, trained, outcome, ready, measured, kept, folder)


def _write(
    begun: Start,
    course: Course,
    engine: Engine,
    trained: Trained,
    outcome: Outcome,
    ready: Frozen,
    measured: Gathered,
    kept: str,
    folder: Path,
) -> Run:
    from regraft.recipes.train import frozen_bundle, train

    options = {**course.resolved, "run": begun.options["run"]}
    facts = {
        "command": command_line(train, {**begun.options, "run": begun.target}),
        "options": options,
        "strategy": kept,
        "asked_strategy": begun.plan.name,
        "backbone": ready.card.name,
        "selection": begun.plan.selection,
    }
    plan = STRATEGIES[kept]
    bundle = frozen_bundle(measured, ready, outcome, plan)
    finished = Finished(
        begun.name,
        facts,
        begun.gathered,
        outcome.fitted,
        outcome.predictions,
        outcome.evaluations,
        (*warnings(ready.card), *outcome.notes),
        measured=measured,
        epochs=tuple(trained.progress.history),
        training=folder,
        engine={
            "training precision": f"{engine.precision} ({engine.why})",
            "training processes": str(engine.world),
            "training ended": trained.progress.finished,
        },
    )
    overwrite = begun.options["overwrite"]
    try:
        return write_run(finished, begun.target, bundle, ready, begun.clock, overwrite=overwrite)
    except RunExists as error:
        raise RunExists(
            f"{error} The trained weights are kept in {training_folder(begun.target)}: move the other run away and go"
            f" on with regraft train --resume {begun.target}"
        ) from error


def _deployable(begun: Start, course: Course, trained: Trained, folder: Path) -> tuple[Frozen, Gathered, Fitted]:
    """The trained network as a frozen backbone and a head, with features of the images it is measured on."""
    from safetensors.torch import save_file

    from regraft.models.heads import to_head
    from regraft.models.lora import merge_lora

    model = course.model.to("cpu")
    model.load_state_dict(trained.weights)
    model.eval()
    backbone = merge_lora(model.backbone) if begun.plan.name == "lora" else model.backbone
    state = {name: tensor.contiguous().clone() for name, tensor in backbone.state_dict().items()}
    file = folder / _WEIGHTS
    save_file(state, file)
    digest = sha256(file)
    card = replace(
        course.card,
        weights=f"{course.card.weights}, trained by {begun.plan.name}" if begun.plan.name != "scratch" else "scratch",
        weights_file=str((begun.target / "bundle" / _WEIGHTS).absolute()),
        weights_sha256=digest,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
    )
    with begun.clock.phase("backbone"):
        ready = frozen(
            card,
            lambda: Backbone(card, backbone),
            begun.cache,
            runtime=begun.options["runtime"],
            state_sha256=digest,
        )
    gathered = _features(begun, ready)
    val = gathered.split("val")
    targets = np.array(val.manifest.targets(), np.int64)
    present = np.flatnonzero(np.bincount(course.train.targets, minlength=len(gathered.manifest.classes)))
    plain = to_head(model.head, len(gathered.manifest.classes), present)
    heat = temperature(plain.logits(val.table.features), targets)
    head = to_head(model.head, len(gathered.manifest.classes), present, heat)
    best = {"best_epoch": trained.best["epoch"], "temperature": heat}
    return ready, gathered, Fitted(head, chosen={**course.chosen, **best})


def _features(begun: Start, ready: Frozen) -> Gathered:
    """Features by the trained network of the images that nothing was learnt from."""
    manifest = begun.gathered.manifest
    items = tuple(item for item in manifest.items if item.split != "train")
    with begun.clock.phase("inference"):
        found = extract(
            items,
            ready.spaces,
            begun.cache,
            ready.runtime,
            max_pixels=begun.options["max_pixels"],
            on_progress=begun.listener.progress,
        )
    return Gathered(replace(manifest, items=found.items), found.table, begun.gathered.rejected, found)


def _compare(
    begun: Start, trained: Trained, gathered: Gathered, fitted: Fitted, probe: Fitted, metric: str
) -> tuple[str, str]:
    """Which result to keep, and a sentence that says how they compare on the validation images."""
    from regraft.training.validation import METRICS, measure

    values = []
    for part, head in ((gathered, fitted.head), (begun.gathered, probe.head)):
        val = part.split("val")
        logits = head.logits(val.table.features).astype(np.float32)
        values.append(measure(logits, np.array(val.manifest.targets(), np.int64))[metric])
    name, (own, other) = begun.plan.name, values
    told = (
        f"validation {metric.replace('_', ' ')}: {name} {own:.4f} (epoch {trained.best['epoch']}), linear probe on the"
        f" frozen backbone {other:.4f}"
    )
    if METRICS[metric] * own >= METRICS[metric] * other or name == "scratch":
        return name, told
    if begun.options["force"]:
        return name, f"{told}: the probe does better, {name} is kept because of --force"
    return "linear-probe", f"{told}: the probe does better and is kept as the result (--force keeps {name})"


def _caution(begun: Start) -> tuple[str, ...]:
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
