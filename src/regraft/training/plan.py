"""What the loop is given and what it keeps: phases, settings, places, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regraft.training.state import KEEP

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from regraft.training.batches import Batch, Examples
    from regraft.training.engine import Engine
    from regraft.training.interrupt import Asked
    from regraft.training.objectives import Objective
    from regraft.training.schedules import Schedule
    from regraft.training.tensorboard import Writer


Judge = Callable[[NDArray[np.float32], NDArray[np.int64]], dict[str, float]]
Digest = Callable[["Tensor", "Batch"], "Tensor"]
"""Outputs for a batch, as they are, and the batch -> one row (B, M) an example, which the judge is given."""


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
        patience: evaluations without improvement after which a phase ends; 0 for never.
        budget: seconds after which training ends, or None.
        judge_start: whether the weights are judged before the first step, as epoch 0; for those that are good already.
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
    judge_start: bool = False
    eval_every: int = 0
    save_every: float = 0.0
    keep: int = KEEP
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
        sums: of the loss, and of what the objective logs, over the images since the last evaluation.
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
    sums: dict[str, float] = field(default_factory=lambda: {"images": 0.0, "loss": 0.0})
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
class Session:
    """One session of a training: what stays the same, and what is in memory only.

    Attributes:
        model: with its own weights.
        objective: what is learnt.
        settings: how.
        engine: where.
        place: what is left behind.
        progress: how far it is.
        total: steps of all phases.
        asked: whether somebody asked for an end.
        average: of the weights, or None.
        judge: of validation images.
        digest: what the judge is given of the outputs, or None for the outputs themselves.
        best_weights: the best ones, until they are on disk.
        optimiser: of the running phase.
        carried: the state of the optimiser before it.
        running: the model as the engine runs it.
        saved: when the last state was written.
        ticked: when the time was last looked at.
        seconds: since the last row of the history.
        last: whether the running phase is the last one.
    """

    model: nn.Module
    objective: Objective
    settings: Settings
    engine: Engine
    place: Place
    progress: Progress
    total: int
    asked: Asked
    average: dict[str, Tensor] | None
    judge: Judge
    digest: Digest | None = None
    best_weights: dict[str, Tensor] | None = None
    optimiser: torch.optim.Optimizer | None = None
    carried: dict[str, Tensor] = field(default_factory=dict)
    running: nn.Module | None = None
    saved: float = field(default_factory=time.perf_counter)
    ticked: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    last: bool = True
