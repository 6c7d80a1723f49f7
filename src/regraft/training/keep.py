"""What a training must not lose: when its state is written, how it is put back, and what comes out at the end."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from regraft.errors import CannotWrite, TrainingFailed, TrainingStopped
from regraft.training import state as states
from regraft.training.parameters import optimiser_tensors
from regraft.training.plan import Progress, Trained
from regraft.training.record import in_words, tick

if TYPE_CHECKING:
    from regraft.training.plan import Session

_LONGEST_UNSAVED = 600.0


def look_around(run: Session, *, evaluated: bool) -> bool:
    """After a step: is there a signal, is the time over, is it time to save? Returns whether training is finished.

    All processes decide alike.
    """
    tick(run)
    progress, settings = run.progress, run.settings
    over = settings.budget is not None and progress.elapsed > settings.budget and progress.best is not None
    since = time.perf_counter() - run.saved
    due = since > _LONGEST_UNSAVED or (evaluated and since >= settings.save_every)
    first = run.engine.rank == 0
    flags = torch.tensor([float(run.asked.signal > 0), float(first and over), float(first and due)])
    stop, end, write = (bool(value) for value in run.engine.sum(flags.to(run.engine.device)).tolist())
    if end and not progress.finished:
        progress.finished = f"the budget of {in_words(settings.budget or 0)} is used up"
    if stop or write or progress.finished:
        save(run)
    if stop and not progress.finished:
        raise TrainingStopped(
            f"stopped after step {progress.step} of {run.total}; everything is saved. Go on with: {run.place.resume}",
            run.asked.signal,
        )
    return bool(progress.finished)


def save(run: Session) -> None:
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
        kept = "The state saved before it is complete" if states.states(run.place.folder) else "No state was saved yet"
        raise CannotWrite(
            f"{problem or 'The first process could not write its state.'} {kept}: make room and go on with:"
            f" {run.place.resume}"
        )
    run.best_weights, run.saved = None, time.perf_counter()


def restore(run: Session, state: states.State) -> None:
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


def outcome(run: Session) -> Trained:
    """The best weights; on the first process only, where they had to be read from disk."""
    progress = run.progress
    if progress.best is None:
        raise TrainingFailed(
            f"No evaluation gave a {run.settings.metric} that is a number, so there are no best weights. Lower the"
            " learning rate with --lr."
        )
    weights = run.best_weights or {}
    if run.best_weights is None and run.engine.rank == 0:
        weights = states.read_tensors(run.place.folder / states.best_name(progress.best["step"])).tensors
    best = next(row for row in progress.history if row["step"] == progress.best["step"])
    return Trained(weights, best, replace(progress))
