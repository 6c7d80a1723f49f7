"""The loop: the one place where weights learn by back-propagation.

An objective says what is learnt; phases say which parameters learn, on what and for how long. Everything random about
the data is a function of seed, epoch and row, and everything else is in the state on disk, so a training that was
killed at any point and resumed ends with the same weights, bit for bit, at the same number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch

from regraft.atomic import write_text
from regraft.errors import TrainingFailed, TrainingStopped
from regraft.training import average as averages
from regraft.training import state as states
from regraft.training.batches import steps_per_epoch, training_batches
from regraft.training.interrupt import listening
from regraft.training.keep import look_around, outcome, restore, save
from regraft.training.objectives import on_device
from regraft.training.parameters import make_optimiser, optimiser_tensors, restore_optimiser
from regraft.training.plan import Progress, Session
from regraft.training.record import evaluate, rates_now, write_history
from regraft.training.schedules import warm_up
from regraft.training.validation import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from regraft.training.batches import Batch
    from regraft.training.engine import Engine
    from regraft.training.objectives import Objective
    from regraft.training.plan import Digest, Judge, Phase, Place, Planned, Settings, Trained

_NAMED = 3


def fit(
    model: nn.Module,
    objective: Objective,
    phases: Sequence[Planned],
    settings: Settings,
    engine: Engine,
    place: Place,
    *,
    images: int,
    judge: Judge = measure,
    digest: Digest | None = None,
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
        judge: what the model gives for the validation images (N, K), and their targets (N,) -> metrics, among them
            "loss" and that of the settings.
        digest: outputs -> rows for the judge, where the outputs are too large to keep; on the targets of each batch.
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
        run = Session(model, objective, settings, engine, place, progress, total, asked, average, judge, digest)
        if resume is None:
            states.seed_everything(settings.seed + engine.rank)
        else:
            restore(run, resume)
        write_history(run)
        for number, planned in enumerate(phases):
            run.last = number == len(phases) - 1
            if number < run.progress.phase or run.progress.finished:
                continue
            with planned.open() as phase:
                _run_phase(run, planned, phase, per_epoch)
        if not run.progress.finished:
            run.progress.finished = "all epochs done"
            save(run)
        if asked.signal:
            raise TrainingStopped(
                f"stopped after the last step; everything is saved. Measure it with: {place.resume}", asked.signal
            )
    return outcome(run)


def _run_phase(run: Session, planned: Planned, phase: Phase, per_epoch: int) -> None:
    progress, settings = run.progress, run.settings
    optimiser = make_optimiser(settings.optimiser, phase.groups)
    restore_optimiser(optimiser, run.carried)
    run.optimiser = optimiser
    run.running, stepper = run.engine.setup(run.model, optimiser)
    run.model.train()
    if settings.judge_start and progress.step == 0:
        evaluate(run, planned, phase)
    while progress.phase_epoch < planned.epochs and not progress.finished and not _tired(run):
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
                evaluate(run, planned, phase)
            if look_around(run, evaluated=bool(ends or due)):
                break
    run.carried = optimiser_tensors(optimiser)
    if not progress.finished:
        progress.phase, progress.phase_epoch, progress.phase_step, progress.waited = progress.phase + 1, 0, 0, 0


def _tired(run: Session) -> bool:
    """Whether a phase that others follow has waited long enough for an improvement; the last one ends the training."""
    patience = run.settings.patience
    return 0 < patience <= run.progress.waited and not run.last and run.progress.epoch_step == 0


def _step(run: Session, phase: Phase, batch: Batch, stepper: Any, per_epoch: int) -> None:
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


def _over_all(run: Session, images: int, logs: dict[str, float], *, failed: bool) -> dict[str, float] | None:
    """Number of images and means over all processes; None where one of them failed."""
    own = [float(failed), float(images), *(value * images for value in logs.values())]
    bad, count, *sums = run.engine.sum(torch.tensor(own, dtype=torch.float64, device=run.engine.device)).tolist()
    if bad:
        return None
    return {"images": count, **{name: total / count for name, total in zip(logs, sums, strict=True)}}


def _count(run: Session, told: dict[str, float], stepper: Any) -> None:
    """A step is done: count it, and tell."""
    progress, settings = run.progress, run.settings
    for name, value in told.items():
        added = value if name == "images" else value * told["images"]
        progress.sums[name] = progress.sums.get(name, 0.0) + added
    progress.step += 1
    progress.phase_step += 1
    progress.epoch_step += 1
    run.place.progress(progress.step * settings.batch, run.total * settings.batch)
    if run.place.writer is not None:
        rates = {f"lr/{where}": rate for where, rate in rates_now(stepper).items()}
        values = {f"train/{name}": value for name, value in told.items() if name != "images"}
        run.place.writer.scalars({**rates, **values}, progress.step)


def _gradients(run: Session, phase: Phase, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Mean loss and logs of a batch, its gradients left in the parameters."""
    loss, logs = torch.zeros((), device=run.engine.device), dict[str, float]()
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


def _halve(run: Session, batch: Batch, error: BaseException) -> None:
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


def _fail(run: Session, batch: Batch, loss: float) -> NoReturn:
    names = [run.place.names(int(row)) for row in batch.rows]
    target = run.place.folder / f"not-finite-{run.engine.rank}.txt"
    write_text(target, "".join(f"{name}\n" for name in names))
    raise TrainingFailed(
        f"The loss became {loss} at step {run.progress.step + 1} (or its gradient is not finite), on the images listed"
        f" in {target}, such as {', '.join(names[:_NAMED])}. Lower the learning rate with --lr, or look at the images."
    )
