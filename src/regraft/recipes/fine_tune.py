"""Strategies that train the network: first a linear probe, then the loop, then the measurement that all models get."""

from __future__ import annotations

import inspect
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from regraft.data.splits import make_splits
from regraft.errors import OptionError
from regraft.features.store import cache_folder, usable_cache
from regraft.recipes.begun import Begun
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.config import write_config
from regraft.recipes.course import make_course
from regraft.recipes.deploy import finish
from regraft.recipes.fit_head import fit_head
from regraft.recipes.listen import Clock
from regraft.recipes.workplace import CONFIG, LOGS, start, training_folder

if TYPE_CHECKING:
    from regraft.heads.head import Fitted
    from regraft.recipes.course import Course
    from regraft.recipes.listen import Listener
    from regraft.recipes.run import Run
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained
    from regraft.training.state import State
    from regraft.training.tensorboard import Writer

_VAL_SHARE = 0.15
_SHOWN = 16


def fine_tune(begun: Begun, engine: Engine | None) -> Run:
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
    run = finish(begun, course, engine, trained, probe, folder)
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
    begun = Begun(whole, plan, gathered, ready, cache, Path(), "", (), None, clock, listener)
    begun, _ = _with_validation(begun)
    from regraft.training.engine import start_engine

    engine = start_engine(asked.precision)
    return _course(begun, engine, _probe(begun)), engine


def _course(begun: Begun, engine: Engine, probe: Fitted) -> Course:
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


def _with_validation(begun: Begun) -> tuple[Begun, tuple[str, ...]]:
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


def _probe(begun: Begun) -> Fitted:
    """The linear probe on the frozen features: where lp-ft starts from, and what the others must beat."""
    plan = STRATEGIES["linear-probe"]
    return fit_head(begun.gathered, plan, begun.options["seed"], begun.clock, begun.listener)


def _workplace(begun: Begun, engine: Engine) -> tuple[Path, State | None, Path]:
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


def _run_loop(begun: Begun, course: Course, engine: Engine, folder: Path, state: State | None) -> Trained:
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


def _show_inputs(writer: Writer, course: Course, begun: Begun) -> None:
    """The first batch as the network will see it."""
    from regraft.training.augment import augmentation
    from regraft.training.batches import PixelExamples, training_batches

    augment = augmentation(course.resolved["augment"], begun.ready.card.preprocessing)
    examples = PixelExamples(course.train.pixels, course.train.targets, augment, course.settings.seed)
    batch = next(iter(training_batches(examples, batch=course.settings.batch, seed=course.settings.seed, epoch=0)))
    names = [begun.gathered.manifest.classes[int(target)] for target in batch.targets[:_SHOWN]]
    writer.inputs(batch.inputs[:_SHOWN], names, 0)
