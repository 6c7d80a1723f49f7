"""Strategies that train the network: first a linear probe, then the loop, then the measurement that all models get."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from regraft.data.splits import make_splits
from regraft.errors import CannotWrite, OptionError, TrainingStopped
from regraft.features.store import cache_folder, usable_cache
from regraft.recipes.backbone import absolute_name, backbone_names
from regraft.recipes.begun import Begun
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.config import write_config
from regraft.recipes.course import make_course
from regraft.recipes.deploy import finish
from regraft.recipes.fit_head import fit_head
from regraft.recipes.goal import Matter, one_class
from regraft.recipes.listen import Clock
from regraft.recipes.workplace import CHANGEABLE, CONFIG, LOGS, held, resume_command, start, training_folder

if TYPE_CHECKING:
    from regraft.data.manifest import Manifest
    from regraft.heads.head import Fitted
    from regraft.recipes.course import Course
    from regraft.recipes.goal import Goal
    from regraft.recipes.listen import Listener
    from regraft.recipes.run import Run
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained
    from regraft.training.state import State
    from regraft.training.tensorboard import Writer

_VAL_SHARE = 0.15
_SHOWN = 16


def fine_tune(begun: Begun, engine: Engine | None, matter: Matter | None = None) -> Run:
    """Train the network and leave a run.

    Args:
        begun: what `train` found.
        engine: where several processes train; None: this one alone.
        matter: what is learnt; None: one class an image.

    Raises:
        RegraftError: as `train`.
    """
    from regraft.recipes.train import train

    asked = SimpleNamespace(**begun.options)
    begun.clock.import_now("torch", "lightning_fabric")
    from regraft.training.engine import start_engine
    from regraft.training.state import newest

    engine = engine or start_engine(asked.precision)
    matter = matter or _ONE_CLASS
    begun, aside = _with_validation(begun, matter)
    probe = matter.probe(begun)
    course = _course(begun, engine, matter.goal(begun, probe))  # before anything is written: options may be wrong
    target = engine.fabric.broadcast(begun.target) if engine.world > 1 else begun.target
    begun = replace(begun, target=target, notes=(*begun.notes, *aside, *course.notes))
    folder = training_folder(target)
    if engine.rank > 0:
        engine.fabric.barrier()  # the first process makes the folder
        state = newest(folder)[0] if begun.resume is not None else None
        _run_loop(begun, course, engine, folder, state, _identity(begun, course, matter))
        return engine.fabric.broadcast(None)  # type: ignore[no-any-return]
    if begun.resume is None:
        start(target, overwrite=begun.options["overwrite"])
    with held(folder):
        state = None
        if begun.resume is None:
            write_config(folder / CONFIG, train, _kept_options(course, target))
        else:
            identity = _identity(begun, course, matter)
            state = state_to_resume(target, folder, identity, _whats(begun, folder), begun.listener)
        if engine.world > 1:
            engine.fabric.barrier()
        trained = _run_loop(begun, course, engine, folder, state, _identity(begun, course, matter))
        try:
            run = matter.finish(begun, course, engine, trained, probe, folder)
        except KeyboardInterrupt:
            again = f"stopped; the training is done and saved. Measure it with: {resume_command(target)}"
            raise TrainingStopped(again, signal.SIGINT) from None
        except CannotWrite as error:
            raise CannotWrite(f"{error} The training is done and saved: go on with {resume_command(target)}") from error
    shutil.rmtree(folder, ignore_errors=True)
    if engine.world > 1:
        engine.fabric.broadcast(run)
    return run


def _kept_options(course: Course, target: Path) -> dict[str, Any]:
    """The options as decided, for --resume and --config: paths hold from any folder, nothing orders to overwrite."""
    kept = {**course.resolved, "run": target.absolute(), "config": None, "resume": None, "overwrite": False}
    for name in ("data", "root", "augment"):
        if kept[name] is not None and Path(kept[name]).exists():
            kept[name] = str(Path(kept[name]).absolute())
    names = [absolute_name(name) for name in backbone_names(kept["backbone"])]
    kept["backbone"] = "+".join(names)
    kept["freeze"] = ",".join(names[n] for n in course.frozen) or None
    return kept


def _identity(begun: Begun, course: Course, matter: Matter) -> dict[str, Any]:
    """What must be the same for a training to go on exactly, for its states."""
    free = {"run", "data", "root", "backbone", "freeze", "augment", "resume", "config", "budget", *CHANGEABLE}
    options = {name: str(value) for name, value in course.resolved.items() if name not in free}
    return {
        "manifest_sha256": matter.identity(begun.gathered.manifest),
        "weights_sha256": "+".join(
            one.spaces[0].weights_sha256 + (" frozen" if n in course.frozen else "")
            for n, one in enumerate(begun.backbones)
        ),
        "augment": "none" if course.augment is None else course.augment.fingerprint(),
        "options_sha256": hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest(),
    }


def state_to_resume(
    target: Path, folder: Path, identity: dict[str, Any], whats: dict[str, str], listener: Listener
) -> State | None:
    """The state to go on from, or None to begin again.

    Args:
        target: the run.
        folder: of its training.
        identity: what must be the same now as in the state.
        whats: how people call each part of it.
        listener: is told what is gone on with.

    Raises:
        OptionError: one of them is not that which the training began with.
    """
    from regraft.training.state import newest, remove_damaged

    state, notes = newest(folder)
    for note in notes:
        listener.warn(note)
    if state is not None:
        for name, value in identity.items():
            if state.facts[name] != value:
                raise OptionError(
                    f"resume {target}: {whats[name]} have changed since this training began, so it cannot go on"
                    " exactly. Put them back, or start again with --overwrite."
                )
    remove_damaged(folder, state)
    told = "from the beginning: there is no state" if state is None else f"after step {state.facts['step']}"
    listener.say(f"resuming {target} {told}")
    return state


def _whats(begun: Begun, folder: Path) -> dict[str, str]:
    """How people call what must be the same."""
    return {
        "manifest_sha256": f"the images or labels of {begun.gathered.manifest.source}",
        "weights_sha256": f"the weights of {' and '.join(one.card.name for one in begun.backbones)}",
        "augment": "the augmentation",
        "options_sha256": f"the options in {folder / CONFIG}",
    }


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
    backbones, gathered = gather_parts(asked, plan, source_of(asked), own, cache, clock, listener)
    begun = Begun(whole, plan, gathered, backbones, cache, Path(), "", (), None, clock, listener)
    begun, _ = _with_validation(begun, _ONE_CLASS)
    from regraft.training.engine import start_engine

    engine = start_engine(asked.precision)
    return _course(begun, engine, _goal(begun, _probe(begun))), engine


def _course(begun: Begun, engine: Engine, goal: Goal) -> Course:
    return make_course(
        SimpleNamespace(**begun.options),
        begun.plan.name,
        begun.gathered.manifest,
        begun.backbones,
        goal,
        begun.cache,
        engine,
        begun.clock,
        begun.listener,
    )


def _with_validation(begun: Begun, matter: Matter) -> tuple[Begun, tuple[str, ...]]:
    """Training chooses its best epoch by validation images; where there are none, some of train are set aside."""
    manifest = begun.gathered.manifest
    if "val" in manifest.split_sizes():
        return begun, ()
    part = matter.divide(manifest.split("train"), _VAL_SHARE, begun.options["seed"])
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


def _goal(begun: Begun, probe: Fitted) -> Goal:
    asked = SimpleNamespace(**begun.options)
    start: Any = probe.head if begun.plan.name == "lp-ft" else None
    return one_class(asked, begun.gathered.manifest, start)


def _divide(manifest: Manifest, share: float, seed: int) -> Manifest:
    return make_splits(manifest, seed=seed, val=share, test=0.0, resplit=True)


_ONE_CLASS = Matter(_divide, _probe, _goal, finish, lambda manifest: manifest.sha256())


def _run_loop(
    begun: Begun, course: Course, engine: Engine, folder: Path, state: State | None, identity: dict[str, Any]
) -> Trained:
    from regraft.training.loop import fit
    from regraft.training.plan import Place
    from regraft.training.validation import measure

    writer = None
    if begun.options["tensorboard"] and engine.rank == 0:
        from regraft.training.tensorboard import open_writer

        writer = open_writer(folder / LOGS, done=0 if state is None else state.facts["step"])
        if state is None:
            _show_inputs(writer, course)
    place = Place(
        folder=folder,
        facts=identity,
        names=lambda row: course.train.items[row].path,
        say=begun.listener.say,
        progress=begun.listener.progress,
        writer=writer,
        resume=resume_command(begun.target),
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
                judge=course.goal.judge or measure,
                resume=state,
            )
    finally:
        if writer is not None:
            writer.close()


def _show_inputs(writer: Writer, course: Course) -> None:
    """The first batch as the network will see it."""
    from regraft.training.batches import PixelExamples, training_batches

    examples = PixelExamples(course.train.pixels, course.train.targets, course.augment, course.settings.seed)
    batch = next(iter(training_batches(examples, batch=course.settings.batch, seed=course.settings.seed, epoch=0)))
    items = [course.train.items[int(row)] for row in batch.rows[:_SHOWN]]
    names = [item.label or Path(item.path).name for item in items]
    writer.inputs(batch.inputs[:_SHOWN], names, 0)
