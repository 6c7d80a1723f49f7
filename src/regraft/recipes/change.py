"""`regraft train` on pairs of two dates: read, train the network by the one loop, choose a threshold, measure."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from regraft.errors import CannotWrite, OptionError, TrainingStopped
from regraft.evaluation.change import best_threshold, total
from regraft.features.store import cache_folder, usable_cache
from regraft.inference.change.bundle import ChangeBundle
from regraft.recipes.backbone import absolute_name, short_name
from regraft.recipes.catalogue import STRATEGIES
from regraft.recipes.change_course import make_change_course
from regraft.recipes.change_data import divided, gather_pairs
from regraft.recipes.change_measure import measure_pairs, teller
from regraft.recipes.change_options import check_change
from regraft.recipes.change_run import FinishedChange, write_change_run
from regraft.recipes.change_start import find_start
from regraft.recipes.config import write_config
from regraft.recipes.deploy import engine_facts
from regraft.recipes.fine_tune import state_to_resume
from regraft.recipes.gather import check_flags, check_numbers
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import Run, choose_folder, command_line, run_name
from regraft.recipes.workplace import CHANGEABLE, CONFIG, LOGS, check_free, held, resume_command, start, training_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.change_course import ChangeCourse
    from regraft.recipes.change_data import PairData
    from regraft.recipes.change_measure import Measured
    from regraft.training.engine import Engine
    from regraft.training.plan import Trained
    from regraft.training.state import State

_FREE = {"run", "data", "backbone", "init", "resume", "config", "budget", *CHANGEABLE}


@dataclass(frozen=True)
class _Work:
    """What every step of a training on pairs needs.

    Attributes:
        train: the public function whose options these are.
        options: all of them.
        strategy: "finetune", "scratch" or "linear-probe".
        name: of the run.
        target: its folder.
        engine: where to train.
        clock: counts the time.
        listener: is told what happens.
        resumes: whether an interrupted training is gone on with.
    """

    train: Callable[..., Any]
    options: dict[str, Any]
    strategy: str
    name: str
    target: Path
    engine: Engine
    clock: Clock
    listener: Listener
    resumes: bool

    @property
    def folder(self) -> Path:
        """Where the training is kept until it is done."""
        return training_folder(self.target)


def train_change(
    train: Callable[..., Any], options: dict[str, Any], plan: Strategy, resume: Path | None, listener: Listener
) -> Run:
    """Train a network of change detection and leave a run.

    Args:
        train: the public function whose options these are.
        options: all of them.
        plan: the strategy that was asked for; "auto" is "finetune".
        resume: the folder of the training to go on with.
        listener: is told what happens.

    Raises:
        RegraftError: as `train`.
    """
    work = _begin(train, options, plan, listener, resumes=resume is not None)
    asked, engine, listener = SimpleNamespace(**options), work.engine, work.listener
    cache = usable_cache(cache_folder())
    data = gather_pairs(asked.data, work.clock, listener, max_rejected=asked.max_rejected, max_pixels=asked.max_pixels)
    data = divided(data, listener, seed=asked.seed, resplit=asked.resplit)
    with engine.first_alone():
        begin = find_start(asked, work.strategy, cache, work.clock, listener)
    course = make_change_course(asked, work.strategy, data, begin, cache, engine, work.clock, listener)
    identity = _identity(course, data, begin.weights_sha256)
    if engine.rank > 0:
        engine.fabric.barrier()  # the first process makes the folder
        from regraft.training.state import newest

        _learn(work, course, data, newest(work.folder)[0] if work.resumes else None, identity)
        return engine.fabric.broadcast(None)  # type: ignore[no-any-return]
    if not work.resumes:
        start(work.target, overwrite=asked.overwrite)
    with held(work.folder):
        run = _train_and_finish(work, course, data, identity)
    shutil.rmtree(work.folder, ignore_errors=True)
    if engine.world > 1:
        engine.fabric.broadcast(run)
    return run


def _begin(
    train: Callable[..., Any], options: dict[str, Any], plan: Strategy, listener: Listener, *, resumes: bool
) -> _Work:
    """Check the options, start the engine and find a place for the run, before the long part."""
    clock = Clock.start(listener)
    asked = SimpleNamespace(**options)
    check_change(asked, options, plan, train)
    if not isinstance(asked.data, str | os.PathLike):
        raise OptionError(f"data is {asked.data!r}: expected a folder with A, B and label, or a table of change pairs")
    check_flags(overwrite=asked.overwrite, resplit=asked.resplit, trust=asked.trust)
    check_numbers(seed=asked.seed, max_rejected=asked.max_rejected, max_pixels=asked.max_pixels)
    strategy = "finetune" if plan.name == "auto" else plan.name
    name = run_name(asked.data, "bit" if asked.init else short_name(asked.backbone), f"change-{strategy}")
    clock.import_now("torch", "lightning_fabric")
    from regraft.losses.pixels import parse_loss
    from regraft.models.change.spec import parse_model
    from regraft.training.engine import start_engine

    for text, parse in ((asked.model, parse_model), (asked.loss, parse_loss)):  # misspelt, it is told at once
        if text is not None:
            parse(text)
    engine = start_engine(asked.precision, devices=asked.devices, nodes=asked.nodes)
    target = Path(asked.run) if resumes else choose_folder(asked.run, name, overwrite=asked.overwrite)
    target = engine.fabric.broadcast(target) if engine.world > 1 else target
    if not resumes and engine.rank == 0:
        check_free(target, overwrite=asked.overwrite)
    heard = listener if engine.rank == 0 else Listener()
    return _Work(train, options, strategy, name, target, engine, clock, heard, resumes)


def _train_and_finish(work: _Work, course: ChangeCourse, data: PairData, identity: dict[str, Any]) -> Run:
    state = None
    if work.resumes:
        whats = {
            "manifest_sha256": f"the pairs of {data.pairs.source}",
            "weights_sha256": f"the weights of {course.card.name}",
            "options_sha256": f"the options in {work.folder / CONFIG}",
        }
        state = state_to_resume(work.target, work.folder, identity, whats, work.listener)
    else:
        write_config(work.folder / CONFIG, work.train, _kept_options(course, work.target))
    if work.engine.world > 1:
        work.engine.fabric.barrier()
    trained = _learn(work, course, data, state, identity)
    again = f"Measure it with: {resume_command(work.target)}"
    try:
        return _finish(work, course, data, trained)
    except KeyboardInterrupt:
        raise TrainingStopped(f"stopped; the training is done and saved. {again}", signal.SIGINT) from None
    except CannotWrite as error:
        raise CannotWrite(f"{error} The training is done and saved. {again}") from error


def _kept_options(course: ChangeCourse, target: Path) -> dict[str, Any]:
    """The options as decided, for --resume and --config."""
    kept = {**course.resolved, "run": target.absolute(), "config": None, "resume": None, "overwrite": False}
    kept["data"] = str(Path(kept["data"]).absolute())
    kept["backbone"] = absolute_name(kept["backbone"])
    return kept


def _identity(course: ChangeCourse, data: PairData, weights_sha256: str) -> dict[str, Any]:
    """What must be the same for a training to go on exactly, for its states."""
    options = {name: str(value) for name, value in course.resolved.items() if name not in _FREE}
    return {
        "manifest_sha256": data.pairs.sha256(),
        "weights_sha256": weights_sha256,
        "options_sha256": hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest(),
    }


def _learn(work: _Work, course: ChangeCourse, data: PairData, state: State | None, identity: dict[str, Any]) -> Trained:
    from regraft.training.change import digest, judge
    from regraft.training.loop import fit
    from regraft.training.plan import Place

    writer = None
    if course.resolved["tensorboard"] and work.engine.rank == 0:
        from regraft.training.tensorboard import open_writer

        writer = open_writer(work.folder / LOGS, done=0 if state is None else state.facts["step"])
    names = [data.pairs.items[tile.pair].name for tile in course.train.tiles]
    say, progress = work.listener.say, work.listener.progress
    place = Place(work.folder, identity, names.__getitem__, say, progress, writer, resume_command(work.target))
    try:
        with work.clock.phase("training"):
            return fit(
                course.trained,
                course.objective,
                course.planned,
                course.settings,
                work.engine,
                place,
                images=len(course.train),
                judge=judge(len(course.classes)),
                digest=digest(len(course.classes)),
                resume=state,
            )
    finally:
        if writer is not None:
            writer.close()


def _finish(work: _Work, course: ChangeCourse, data: PairData, trained: Trained) -> Run:
    """Choose the threshold on validation, measure validation and test, and write the run."""
    import torch

    net = course.net.to("cpu")
    net.load_state_dict(trained.weights, strict=course.trained is course.net)
    net = net.to(work.engine.device).to(memory_format=torch.channels_last).eval()
    tell = teller(net, course.scale, course.tile)
    parts = [split for split in ("test", "val") if split in data.pairs.split_sizes()]
    limit = course.resolved["max_pixels"]
    measured: dict[str, Measured] = {
        split: measure_pairs(tell, data.pairs.split(split).items, data.coding, limit, work.clock, work.listener)
        for split in parts
    }
    threshold = best_threshold(total(measured["val"].counts).histogram)
    work.listener.say(f"threshold {threshold.value:.3f}: the best F1 on the validation pairs")
    bundle = ChangeBundle(
        course.classes,
        course.network,
        course.card,
        data.survey.bands,
        data.survey.dtype,
        course.scale,
        course.tile,
        threshold.value,
        {"strategy": work.strategy},
    )
    done = FinishedChange(
        work.name,
        _facts(work, course),
        data,
        bundle,
        measured,
        tell,
        (*course.notes, *_caution(parts)),
        chosen={**course.chosen, "best_epoch": trained.best["epoch"], "threshold": threshold.value},
        epochs=tuple(trained.progress.history),
        training=work.folder,
        engine=engine_facts(work.engine, trained),
        seed=course.resolved["seed"],
    )
    overwrite = work.options["overwrite"]
    return write_change_run(done, work.target, net.state_dict(), work.clock, work.listener, overwrite=overwrite)


def _caution(parts: Collection[str]) -> tuple[str, ...]:
    if "test" in parts:
        return ()
    said = (
        "The best epoch and the threshold were chosen on the validation pairs, and the numbers are of the same pairs,"
        " as there is no test part: they are a little too good."
    )
    return (said,)


def _facts(work: _Work, course: ChangeCourse) -> dict[str, Any]:
    """What config.json says of the run."""
    return {
        "command": command_line(work.train, work.options),
        "options": {**course.resolved, "run": work.options["run"]},
        "strategy": work.strategy,
        "asked_strategy": work.options["strategy"],
        "backbone": course.card.name,
        "model": course.network,
        "selection": STRATEGIES["finetune"].selection.replace("images", "pairs"),
    }
