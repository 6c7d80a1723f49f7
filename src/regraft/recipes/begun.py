"""What `train` found before the network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.evaluation.comparison import Leaderboard
    from regraft.features.frozen import Frozen
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock, Listener


@dataclass(frozen=True)
class Begun:
    """What `train` found before the network is trained.

    Attributes:
        options: of `train`.
        plan: the strategy.
        gathered: the images with features of the pretrained backbones.
        backbones: those backbones.
        cache: the cache folder.
        target: where the run will be.
        name: the run's name.
        notes: sentences about the data.
        resume: the folder of an interrupted training, or None.
        clock: counts the time.
        listener: is told what happens.
        leaderboard: of the comparison that chose the strategy.
        command: what the user said, where it was not `train`.
    """

    options: dict[str, Any]
    plan: Strategy
    gathered: Gathered
    backbones: tuple[Frozen, ...]
    cache: Path
    target: Path
    name: str
    notes: tuple[str, ...]
    resume: Path | None
    clock: Clock
    listener: Listener
    leaderboard: Leaderboard | None = None
    command: str | None = None
