"""The loop: the one place where weights learn by back-propagation.

An objective says what is learnt; phases say which parameters learn, on what and for how long. Everything random about
the data is a function of seed, epoch and row, and everything else is in the state on disk, so a training that was
killed at any point and resumed ends with the same weights, bit for bit, at the same number of threads.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from regraft.atomic import write_text
from regraft.errors import CannotWrite, TrainingFailed, TrainingStopped
from regraft.training import average as averages
from regraft.training import state as states
from regraft.training.batches import steps_per_epoch, training_batches
from regraft.training.interrupt import Asked, listening
from regraft.training.objectives import on_device
from regraft.training.parameters import make_optimiser, optimiser_tensors, restore_optimiser
from regraft.training.schedules import warm_up
from regraft.training.validation import is_better, logits_of, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn

    from regraft.training.batches import Batch, Examples
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.schedules import Schedule
    from regraft.training.tensorboard import Writer

_LONGEST_UNSAVED = 600.0
_NAMED = 3


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which the same parameters learn on the same examples.

    Attributes:
        groups: of the optimiser, as `parameters.groups` makes them.
        train: what is learnt from.
        val: what the best epoch is chosen by.
        prepare: a batch's inputs, as the examples give them -> what the model takes.
    """

    groups: list[dict[str, Any]]
    train: Examples
    val: Examples
    prepare: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Planned:
    """A phase to come.

    Attributes:
        name: for people.
        epochs: how many.
        open: makes it: freezes and thaws, and prepares its examples.
    """

    name: str
    epochs: int
    open: Callable[[], AbstractContextManager[Phase]]


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        batch: images a step, over all processes.
        accumulate: micro-batches that a step is computed in.
        optimiser: "adamw" or "sgd".
        schedule: of the learning rates.
        warm_up: steps, at the start of each phase.
        clip: largest norm of the gradient; 0 for no limit.
        metric: what the best weights are chosen by, on the validation images.
        average: whether a moving average of the weights is kept and judged in their place.
        patience: evaluations without improvement after which training ends; 0 for never.
        budget: seconds after which training ends, or None.
        eval_every: steps between evaluations; 0 for once an epoch.
        keep: how many states stay on disk.
        save_every: seconds that must have passed since the last state; 0 saves at each evaluation.
        workers: processes that load images; 0 loads them in this one.
        seed: of the order of the data and its augmentation.
    """

    batch: int
    schedule: Schedule
    accumulate: int = 1
    optimiser: str = "adamw"
    warm_up: int = 0
    clip: float = 1.0
    metric: str = "accuracy"
    average: bool = False
    patience: int = 0
    budget: float | None = None
    eval_every: int = 0
    save_every: float = 0.0
    keep: int = states.KEEP
    workers: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Place:
    """Where a training leaves what it must not lose, and whom it tells.

    Attributes:
        folder: for states, history and logs.
        facts: what else stands in each state (the manifest's hash), JSON values.
        names: what to call an example (its path), by row of the training part.
        say: one line for the user.
        progress: images done, and in all.
        writer: of TensorBoard's files, or None.
        resume: the command that goes on.
    """

    folder: Path
    facts: dict[str, Any]
    names: Callable[[int], str]
    say: Callable[[str], None]
    progress: Callable[[int, int], None]
    writer: Writer | None = None
    resume: str = ""


@dataclass
class Progress:
    """How far a training is: all of it is JSON and stands in each state.

    Attributes:
        phase: number of the phase.
        phase_epoch: whole epochs done in it.
        phase_step: steps done in it.
        epoch: whole epochs done in all.
        step: steps done in all.
        epoch_step: steps done in this epoch.
        accumulate: micro-batches a step, once memory decided.
        best: `step`, `epoch` and `value` of the best weights.
        waited: evaluations since.
        elapsed: seconds of training, over all sessions.
        finished: why it ended; empty while it has not.
        sums: of loss and accuracy over the images since the last evaluation.
        history: one row for each evaluation.
    """

    phase: int = 0
    phase_epoch: int = 0
    phase_step: int = 0
    epoch: int = 0
    step: int = 0
    epoch_step: int = 0
    accumulate: int = 1
    best: dict[str, Any] | None = None
    waited: int = 0
    elapsed: float = 0.0
    finished: str = ""
    sums: dict[str, float] = field(default_factory=lambda: {"images": 0.0, "loss": 0.0, "accuracy": 0.0})
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        weights: the best ones, by name in the model.
        best: the row of the history in which they were judged.
        progress: how far it went.
    """

    weights: dict[str, Tensor]
    best: dict[str, Any]
    progress: Progress


@dataclass
class _Run:
    """One session of a training: what stays the same, and what is in memory only."""

    model: nn.Module
    objective: Objective
    settings: Settings
    engine: Engine
    place: Place
    progress: Progress
    total: int
    asked: Asked
    average: dict[str, Tensor] | None = None
    best_weights: dict[str, Tensor] | None = None  # not on disk yet
    optimiser: torch.optim.Optimizer | None = None
    carried: dict[str, Tensor] = field(default_factory=dict)
    running: nn.Module | None = None  # the model as the engine runs it
    saved: float = field(default_factory=time.perf_counter)
    ticked: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0  # since the last row


def fit(
    model: nn.Module,
    objective: Objective,
    phases: Sequence[Planned],
    settings: Settings,
    engine: Engine,
    place: Place,
    *,
    images: int,
    resume: states.State | None = None,
) -> Trained:
    """Train, and return the weights that did best on the validation images.

    Args:
        model: a `Classifier` or another network that the objective knows; ends with its last weights.
        objective: what is learnt.
        phases: what learns, one after the other.
        settings: how.
        engine: where.
        place: what is left behind.
        images: number of training images, which is the same in all phases.
        resume: the state to go on from, as `state.newest` read it.

    Raises:
        TrainingFailed: a loss or gradient was not finite; the batch's images are told and written to a file.
        TrainingStopped: Ctrl-C or SIGTERM; the state is saved.
        CannotWrite: a state could not be written; the last good one stays.
    """
    per_epoch = steps_per_epoch(images, settings.batch)
    total = per_epoch * sum(phase.epochs for phase in phases)
    progress = Progress(accumulate=settings.accumulate)
    average = averages.start_average(model) if settings.average else None
    with listening() as asked:
        run = _Run(model, objective, settings, engine, place, progress, total, asked, average)
        if resume is None:
            states.seed_everything(settings.seed + engine.rank)
        else:
            _restore(run, resume)
        _write_history(run)
        for number, planned in enumerate(phases):
            if number < run.progress.phase or run.progress.finished:
                continue
            with planned.open() as phase:
                _run_phase(run, planned, phase, per_epoch)
        if not run.progress.finished:
            run.progress.finished = "all epochs done"
            _save(run)
    return _outcome(run)


def _run_phase(run: _Run, planned: Planned, phase: Phase, per_epoch: int) -> None:
    progress, settings = run.progress, run.settings
    optimiser = make_optimiser(settings.optimiser, phase.groups)
    restore_optimiser(optimiser, run.carried)
    run.optimiser = optimiser
    run.running, stepper = run.engine.setup(run.model, optimiser)
    run.model.train()
    while progress.phase_epoch < planned.epochs and not progress.finished:
        batches = training_batches(
            phase.train,
            batch=settings.batch,
            seed=settings.seed,
            epoch=progress.epoch,
            start=progress.epoch_step,
            rank=run.engine.rank,
            world=run.engine.world,
            workers=settings.workers,
        )
        for batch in batches:
            _step(run, phase, batch, stepper, per_epoch)
            ends = progress.epoch_step == per_epoch
            if ends:
                progress.epoch, progress.phase_epoch, progress.epoch_step = (
                    progress.epoch + 1,
                    progress.phase_epoch + 1,
                    0,
                )
            due = settings.eval_every and progress.step % settings.eval_every == 0
            if ends or due:
                _evaluate(run, planned, phase)
            if _look_around(run, evaluated=bool(ends or due)):
                break
    run.carried = optimiser_tensors(optimiser)
    if not progress.finished:
        progress.phase, progress.phase_epoch, progress.phase_step = progress.phase + 1, 0, 0


def _step(run: _Run, phase: Phase, batch: Batch, stepper: Any, per_epoch: int) -> None:
    """One update of the weights."""
    progress, settings = run.progress, run.settings
    factor = settings.schedule.at(progress.step, run.total, per_epoch) * warm_up(progress.phase_step, settings.warm_up)
    for group in stepper.param_groups:
        group["lr"] = group["peak"] * factor
    while True:
        stepper.zero_grad(set_to_none=True)
        try:
            loss, logs = _gradients(run, phase, batch)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            _halve(run, batch, error)
    norm = torch.zeros(())
    if settings.clip > 0:
        norm = run.engine.fabric.clip_gradients(run.running, stepper, max_norm=settings.clip, error_if_nonfinite=False)
    # With f16 the scaler expects infinite gradients now and then, leaves out the step and scales down.
    finite = torch.isfinite(loss) and (run.engine.precision == "f16" or torch.isfinite(norm))
    told = _over_all(run, len(batch), {"loss": loss.item(), **logs}, failed=not finite)
    if told is None:
        _fail(run, batch, float(loss))
    stepper.step()
    if run.average is not None:
        averages.update_average(run.average, run.model, progress.step)
    _count(run, told, stepper)


def _over_all(run: _Run, images: int, logs: dict[str, float], *, failed: bool) -> dict[str, float] | None:
    """Number of images and means over all processes; None where one of them failed."""
    own = [float(failed), float(images), *(value * images for value in logs.values())]
    bad, count, *sums = run.engine.sum(torch.tensor(own, dtype=torch.float64, device=run.engine.device)).tolist()
    if bad:
        return None
    return {"images": count, **{name: total / count for name, total in zip(logs, sums, strict=True)}}


def _count(run: _Run, told: dict[str, float], stepper: Any) -> None:
    """A step is done: count it, and tell."""
    progress, settings = run.progress, run.settings
    for name in progress.sums:
        progress.sums[name] += told[name] * (1.0 if name == "images" else told["images"])
    progress.step += 1
    progress.phase_step += 1
    progress.epoch_step += 1
    run.place.progress(progress.step * settings.batch, run.total * settings.batch)
    if run.place.writer is not None:
        rates = {f"lr/{where}": rate for where, rate in _rates(stepper).items()}
        values = {f"train/{name}": value for name, value in told.items() if name != "images"}
        run.place.writer.scalars({**rates, **values}, progress.step)


def _gradients(run: _Run, phase: Phase, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Mean loss and logs of a batch, its gradients left in the parameters."""
    loss, logs = torch.zeros((), device=run.engine.device), dict.fromkeys(("accuracy",), 0.0)
    parts = batch.chunks(run.progress.accumulate)
    for number, part in enumerate(parts):
        share = len(part) / len(batch)
        with run.engine.fabric.no_backward_sync(run.running, enabled=number < len(parts) - 1):
            one, told = run.objective(run.running, on_device(part, run.engine.device, phase.prepare))  # type: ignore[arg-type]
            run.engine.fabric.backward(one * share)
        loss += one.detach() * share
        for name, value in told.items():
            logs[name] = logs.get(name, 0.0) + float(value) * share
    return loss, logs


def _halve(run: _Run, batch: Batch, error: BaseException) -> None:
    """After running out of memory: smaller micro-batches, more of them; anything else goes on as it came."""
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
    if not memory or run.engine.world > 1:
        raise error
    if run.progress.accumulate >= len(batch):
        raise TrainingFailed(
            "There is not enough memory for a single image. Choose a smaller backbone or a smaller --size."
        ) from error
    run.progress.accumulate = min(2 * run.progress.accumulate, len(batch))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    run.place.say(
        f"out of memory: each step of {len(batch)} images is now computed in {run.progress.accumulate} parts,"
        " which gives the same gradients but for BatchNorm"
    )


def _fail(run: _Run, batch: Batch, loss: float) -> NoReturn:
    names = [run.place.names(int(row)) for row in batch.rows]
    target = run.place.folder / f"not-finite-{run.engine.rank}.txt"
    write_text(target, "".join(f"{name}\n" for name in names))
    raise TrainingFailed(
        f"The loss became {loss} at step {run.progress.step + 1} (or its gradient is not finite), on the images listed"
        f" in {target}, such as {', '.join(names[:_NAMED])}. Lower the learning rate with --lr, or look at the images."
    )


def _evaluate(run: _Run, planned: Planned, phase: Phase) -> None:
    """Judge the weights on the validation images and add a row to the history."""
    progress, settings = run.progress, run.settings
    with averages.using(run.average, run.model):
        logits = logits_of(
            run.model, phase.val, phase.prepare, run.engine, batch=_eval_batch(settings), workers=settings.workers
        )
        found = measure(logits, phase.val.targets)
        better = is_better(
            settings.metric, found[settings.metric], None if progress.best is None else progress.best["value"]
        )
        if better:
            run.best_weights = averages.start_average(run.model)
    run.model.train()
    _tick(run)
    images, seconds = progress.sums["images"], run.seconds
    row: dict[str, Any] = {
        "epoch": progress.epoch,
        "step": progress.step,
        "phase": planned.name,
        **{"lr" if where == "backbone" else "head_lr": rate for where, rate in _rates(run.optimiser).items()},
        **{f"train_{name}": progress.sums[name] / max(1.0, images) for name in ("loss", "accuracy")},
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
    if settings.patience and progress.waited >= settings.patience:
        progress.finished = f"no better {settings.metric} for {progress.waited} evaluations"


def _rates(optimiser: Any) -> dict[str, float]:
    """The highest rate in the backbone and in the head, as they are now."""
    found: dict[str, float] = {}
    for group in optimiser.param_groups:
        found[group["where"]] = max(group["lr"], found.get(group["where"], 0.0))
    return found


def _eval_batch(settings: Settings) -> int:
    return max(32, settings.batch)


def _tell(run: _Run, row: dict[str, Any]) -> None:
    """A row for the user, the history file and TensorBoard."""
    progress, place = run.progress, run.place
    if run.engine.rank == 0:
        with (place.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    left = (run.total - progress.step) * progress.elapsed / max(1, progress.step)
    place.say(
        f"  epoch {progress.epoch}, step {progress.step} of {run.total} ({row['phase']}): loss {row['train_loss']:.3f},"
        f" val loss {row['val_loss']:.3f}, val accuracy {row['val_accuracy']:.4f}{' (best)' if row['best'] else ''};"
        f" {row['images_per_second']:.0f} images/s, {_time(left)} left"
    )
    if place.writer is not None:
        values = {f"val/{k.removeprefix('val_')}": v for k, v in row.items() if k.startswith("val_")}
        place.writer.scalars({**values, "speed/images_per_second": row["images_per_second"]}, progress.step)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _tick(run: _Run) -> None:
    """Count the time that passed."""
    now = time.perf_counter()
    run.progress.elapsed += now - run.ticked
    run.seconds += now - run.ticked
    run.ticked = now


def _look_around(run: _Run, *, evaluated: bool) -> bool:
    """After a step: is there a signal, is the time over, is it time to save? Returns whether training is finished.

    All processes decide alike.
    """
    _tick(run)
    progress, settings = run.progress, run.settings
    over = settings.budget is not None and progress.elapsed > settings.budget and progress.best is not None
    since = time.perf_counter() - run.saved
    due = since > _LONGEST_UNSAVED or (evaluated and since >= settings.save_every)
    first = run.engine.rank == 0
    flags = torch.tensor([float(run.asked.signal > 0), float(first and over), float(first and due)])
    stop, end, save = (bool(value) for value in run.engine.sum(flags.to(run.engine.device)).tolist())
    if end and not progress.finished:
        progress.finished = f"the budget of {_time(settings.budget or 0)} is used up"
    if stop or save or progress.finished:
        _save(run)
    if stop and not progress.finished:
        raise TrainingStopped(
            f"stopped after step {progress.step} of {run.total}; everything is saved. Go on with: {run.place.resume}",
            run.asked.signal,
        )
    return bool(progress.finished)


def _save(run: _Run) -> None:
    """Write the state. Where the first process cannot, all end."""
    engine, progress = run.engine, run.progress
    tensors = {f"model/{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in (run.average or {}).items()}
    moments = run.carried if run.optimiser is None else optimiser_tensors(run.optimiser)
    tensors |= {f"optimiser/{name}": tensor for name, tensor in moments.items()}
    for name, value in states.random_states().items():
        for rank, own in enumerate(engine.gather(value.to(engine.device))):
            tensors[f"random/{rank}/{name}"] = own
    facts = {
        **run.place.facts,
        **asdict(progress),
        "world": engine.world,
        "threads": torch.get_num_threads(),
        "precision": engine.precision,
        "scaler": engine.scaler_state(),
    }
    problem: CannotWrite | None = None
    if engine.rank == 0:
        try:
            states.save(run.place.folder, states.State(tensors, facts), run.best_weights, keep=run.settings.keep)
        except CannotWrite as error:
            problem = error
    failed = engine.sum(torch.tensor([0.0 if problem is None else 1.0], device=engine.device)).item()
    if failed:
        raise CannotWrite(
            f"{problem or 'The first process could not write its state.'} The state saved before it is complete: make"
            f" room and go on with: {run.place.resume}"
        )
    run.best_weights, run.saved = None, time.perf_counter()


def _restore(run: _Run, state: states.State) -> None:
    """Put everything back as it was when the state was saved."""
    facts = state.facts
    run.progress = Progress(**{name: facts[name] for name in asdict(run.progress)})
    run.model.load_state_dict(state.part("model"))
    if run.average is not None:
        run.average = {name: tensor.to(run.engine.device) for name, tensor in state.part("average").items()}
    run.carried = state.part("optimiser")
    run.engine.restore_scaler(facts["scaler"])
    own = state.part(f"random/{run.engine.rank}")
    if own:
        states.set_random_states(own)
    if facts["threads"] != torch.get_num_threads() or facts["world"] != run.engine.world:
        run.place.say(
            f"the saved steps ran with {facts['threads']} threads in {facts['world']} processes, these run with"
            f" {torch.get_num_threads()} in {run.engine.world}: the last digits may differ from one run without a stop"
        )


def _write_history(run: _Run) -> None:
    """The history up to here: rows of steps that a kill undid are gone."""
    if run.engine.rank == 0:
        rows = "".join(json.dumps(row) + "\n" for row in run.progress.history)
        write_text(run.place.folder / "history.jsonl", rows)


def _outcome(run: _Run) -> Trained:
    progress = run.progress
    if progress.best is None:
        raise TrainingFailed(
            f"No evaluation gave a {run.settings.metric} that is a number, so there are no best weights. Lower the"
            " learning rate with --lr."
        )
    weights = run.best_weights
    if weights is None:
        weights = states.read_tensors(run.place.folder / states.best_name(progress.best["step"])).tensors
    best = next(row for row in progress.history if row["step"] == progress.best["step"])
    return Trained(weights, best, replace(progress))
