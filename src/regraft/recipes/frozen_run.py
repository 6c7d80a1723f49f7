"""A strategy on frozen features, from gathered images to a run: chosen, fitted, guarded, measured, written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.backbones.files import warnings
from regraft.inference.bundle import Bundle
from regraft.inference.guard import Guard
from regraft.recipes.catalogue import AUTO
from regraft.recipes.choose import choose
from regraft.recipes.fit_head import fit_head
from regraft.recipes.guard_head import guard_and_measure
from regraft.recipes.run import Finished, Run, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import SimpleNamespace

    from regraft.evaluation.comparison import Leaderboard
    from regraft.features.frozen import Frozen
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.fit_head import Outcome
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock, Listener


def chosen_strategy(
    gathered: Gathered, backbones: Sequence[Frozen], plan: Strategy, seed: int, clock: Clock, listener: Listener
) -> tuple[Strategy, Leaderboard | None, tuple[str, ...]]:
    """The strategy to fit, how it was chosen and what to say of that; the strategy itself where one was named."""
    if plan != AUTO:
        return plan, None, ()
    choice = choose(gathered, backbones, seed, clock, listener)
    return choice.strategy, choice.leaderboard, (choice.note,)


def frozen_run(
    gathered: Gathered,
    backbones: Sequence[Frozen],
    plan: Strategy,
    asked: SimpleNamespace,
    facts: dict[str, Any],
    name: str,
    target: Path,
    clock: Clock,
    listener: Listener,
    *,
    notes: tuple[str, ...] = (),
    leaderboard: Leaderboard | None = None,
) -> Run:
    """Fit a strategy on all training images, measure it, and leave a run.

    Args:
        gathered: all images, with features.
        backbones: whose features they are; none for a feature file.
        plan: a strategy that is a head on features.
        asked: options of the command: `seed`, `overwrite`, `calibrate`, `abstain_at`.
        facts: command and options, for config.json.
        name: of the run.
        target: its folder.
        clock: counts the time.
        listener: is told what happens.
        notes: sentences about the data and the choice of the strategy.
        leaderboard: of the comparison that chose it.
    """
    fitted = fit_head(gathered, plan, asked.seed, clock, listener)
    guard, outcome = guard_and_measure(gathered, fitted, plan.head, asked, notes, clock, listener)
    selection = plan.selection
    if leaderboard is not None:
        compared = len(leaderboard.standings)
        selection = f"{compared} candidates were compared within the training part. {selection}"
    facts = {**facts, "strategy": plan.name, "backbone": joined_name(backbones), "selection": selection}
    finished = Finished(
        name,
        facts,
        gathered,
        outcome.fitted,
        outcome.predictions,
        outcome.evaluations,
        (*unfilled(backbones), *outcome.notes),
        leaderboard=leaderboard,
        guard=guard,
    )
    bundle = frozen_bundle(gathered, backbones, outcome, plan, guard)
    return write_run(finished, target, bundle, backbones, clock, overwrite=asked.overwrite)


def joined_name(backbones: Sequence[Frozen]) -> str | None:
    """The name by which the backbones are asked for together; None for features from a file."""
    return "+".join(one.card.name for one in backbones) or None


def unfilled(backbones: Sequence[Frozen]) -> list[str]:
    """What their weights files left unfilled, in sentences."""
    return [warning for one in backbones for warning in warnings(one.card)]


def frozen_bundle(
    gathered: Gathered, backbones: Sequence[Frozen], outcome: Outcome, plan: Strategy, guard: Guard | None = None
) -> Bundle:
    """The bundle of a head on frozen features."""
    space = backbones[0].spaces[0] if backbones else None
    return Bundle(
        classes=gathered.manifest.classes,
        head=outcome.fitted.head,
        cards=tuple(one.card for one in backbones),
        views="flip" if backbones and len(backbones[0].spaces) > 1 else "none",
        precision="f32" if space is None else space.precision,
        runtime="none" if space is None else space.runtime,
        feature_dim=gathered.table.features.shape[1],
        facts={"strategy": plan.name, "chosen": outcome.fitted.chosen, "features": gathered.about},
        guard=guard or Guard(),
    )
