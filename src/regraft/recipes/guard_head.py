"""A fitted head corrected and guarded: probabilities to believe, a threshold for the unsure, a limit for the unlike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from regraft.errors import OptionError
from regraft.evaluation.abstaining import choose_threshold, confidences, keep
from regraft.evaluation.predictions import softmax
from regraft.evaluation.scores import SPLIT_WORDS
from regraft.heads.calibrated import FEW, Calibration, Method, calibrate, held_out_logits
from regraft.inference.guard import Guard, learn_familiar
from regraft.recipes.fit_head import groups_of, measure_head

if TYPE_CHECKING:
    from types import SimpleNamespace

    from regraft.evaluation.predictions import Predictions
    from regraft.heads.head import Fitted
    from regraft.inference.guard import Familiar
    from regraft.recipes.fit_head import Outcome
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock, Listener


@dataclass(frozen=True)
class Guarded:
    """What `guard_head` gives: the head to measure and keep, what stands beside its answers, sentences on both."""

    fitted: Fitted
    guard: Guard
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Judged:
    """Logits (N, K) of images that the head had not learnt from, their classes (N,), and what to call them."""

    logits: np.ndarray
    targets: np.ndarray
    source: str


def check_guarding(calibrate: object, abstain_at: object) -> None:
    """Refuse options that mean nothing, before any work is done.

    Raises:
        OptionError: naming the value and what was expected.
    """
    if calibrate not in get_args(Method):
        raise OptionError(f"calibrate {calibrate!r} is unknown: use {', '.join(get_args(Method))}")
    number = isinstance(abstain_at, int | float) and not isinstance(abstain_at, bool)
    if abstain_at is not None and not (number and 0 < abstain_at < 1):  # type: ignore[operator]
        raise OptionError(f"abstain-at is {abstain_at!r}; expected an accuracy above 0 and below 1, such as 0.95")


def check_judges(gathered: Gathered, calibrate: object, abstain_at: object) -> None:
    """Refuse to judge a trained network by the images that its best epoch was chosen and its numbers are told on.

    Raises:
        OptionError: as there is no test part, the validation part would have to serve for all of it.
    """
    asked = "--abstain-at" if abstain_at is not None else f"--calibrate {calibrate}" if calibrate == "isotonic" else ""
    if asked and "test" not in gathered.manifest.split_sizes():
        raise OptionError(
            f"{asked} needs validation images that the numbers are not measured on, but {gathered.manifest.source} has"
            " no test part. Name one, let Regraft make one with --resplit, or use a strategy on frozen features."
        )


def tell_kept(guard: Guard, predictions: Predictions, part: str, listener: Listener) -> None:
    """Say what the threshold keeps of images that were measured, and how much of that is right."""
    if guard.threshold is None:
        return
    kept, threshold = keep(*confidences(predictions), guard.threshold.value), guard.threshold
    said = f"unsure: {kept.images - kept.kept:,} of {kept.images:,} {part} images"
    if kept.accuracy is not None:
        said += "; of those kept {:.3f} are right (95 % interval {:.3f} to {:.3f})".format(
            kept.accuracy, *kept.interval
        )
    if not threshold.reached:
        said += f"; an accuracy of {threshold.target:g} could not be promised"
    elif kept.accuracy is not None and kept.accuracy < threshold.target:
        said += f"; fewer than the {threshold.target:g} that was asked for"
    listener.say(said)


def guard_and_measure(
    gathered: Gathered,
    fitted: Fitted,
    refit: str | None,
    asked: SimpleNamespace,
    notes: tuple[str, ...],
    clock: Clock,
    listener: Listener,
) -> tuple[Guard, Outcome]:
    """Guard a head as `guard_head` does, measure it, and say what its threshold keeps of the part that is told.

    Args:
        gathered: all images, with the features that the head is for.
        fitted: the head.
        refit: as in `guard_head`.
        asked: options of the command: `calibrate`, `abstain_at`, `seed`.
        notes: sentences for the report that come before.
        clock: counts the time.
        listener: is told what was found.
    """
    how: dict[str, Any] = {"method": asked.calibrate, "abstain_at": asked.abstain_at, "seed": asked.seed}
    guarded = guard_head(gathered, fitted, refit, clock, listener, **how)
    outcome = measure_head(gathered, guarded.fitted, asked.seed, clock, listener, (*notes, *guarded.notes))
    split, told = next(iter(outcome.predictions.items()))
    tell_kept(guarded.guard, told, SPLIT_WORDS[split], listener)
    return guarded.guard, outcome


def guard_head(
    gathered: Gathered,
    fitted: Fitted,
    refit: str | None,
    clock: Clock,
    listener: Listener,
    *,
    method: Method = "auto",
    abstain_at: float | None = None,
    seed: int = 0,
) -> Guarded:
    """Calibrate a head, choose its threshold, and learn what its training images are like.

    Nothing is judged by images that the headline is measured on: where there is a test part, validation images serve;
    where there is none, training images do, with scores of heads that had not learnt from them. Without a test part
    auto leaves the head as it is, as every head on frozen features already reads its confidence from such scores.

    Args:
        gathered: all images, with the features that the head is for.
        fitted: the head.
        refit: the name that `heads.fit` knows it by; None for a trained network, which cannot be fitted once more.
        clock: counts the time as "calibrate".
        listener: is told what was found.
        method: of calibration.
        abstain_at: the accuracy on what is kept, or None for no threshold.
        seed: of folds and parts.
    """
    notes: list[str] = []
    with clock.phase("calibrate"):
        judged = _judged(gathered, fitted, refit, method, abstain_at, seed)
        found = Calibration(fitted.head, np.zeros((0, 0)), "none")
        threshold = None
        if judged is not None and len(judged.targets):
            found = calibrate(fitted.head, judged.logits, judged.targets, method, seed=seed)
            notes += _on_calibration(found, judged)
            if abstain_at is not None:
                probabilities = softmax(found.logits)
                correct = found.logits.argmax(axis=1) == judged.targets
                threshold = choose_threshold(probabilities.max(axis=1), correct, abstain_at)
                notes.append(threshold.sentence(judged.source))
        elif judged is not None:
            notes.append(
                "no image can be held out to judge confidence by: nothing is calibrated, and no threshold chosen"
            )
        guard = Guard(threshold, _familiar(gathered, seed))
    for note in notes:
        listener.say(note)
    chosen = dict(fitted.chosen)
    if found.method != "none":
        chosen["calibration"] = found.method if found.method == "isotonic" else f"temperature {found.temperature:.4g}"
    if threshold is not None:
        chosen["unsure_below"] = threshold.value
    return Guarded(replace(fitted, head=found.head, chosen=chosen), guard, tuple(notes))


def _judged(
    gathered: Gathered, fitted: Fitted, refit: str | None, method: Method, abstain_at: float | None, seed: int
) -> _Judged | None:
    """The images to judge by; None where nothing asks for them."""
    sizes = gathered.manifest.split_sizes()
    if "test" in sizes and "val" in sizes:
        if method == "none" and abstain_at is None:
            return None
        part = gathered.split("val")
        logits = fitted.head.logits(part.table.features)
        return _Judged(logits, np.array(part.manifest.targets(), np.int64), "validation images")
    if refit is None or (abstain_at is None and method in {"auto", "none"}):
        return None
    part = gathered.split("train")
    targets = np.array(part.manifest.targets(), np.int64)
    rows, logits = held_out_logits(
        refit,
        part.table.features,
        targets,
        len(gathered.manifest.classes),
        groups=groups_of(part.manifest),
        seed=seed,
        blocks=gathered.blocks,
    )
    return _Judged(logits, targets[rows], "training images held out in turn")


def _on_calibration(found: Calibration, judged: _Judged) -> list[str]:
    """Sentences on what was done."""
    on = f"{len(judged.targets):,} {judged.source}"
    if found.method == "none":
        return []
    if found.method == "temperature":
        return [f"probabilities calibrated on {on}: temperature {found.temperature:.3f}"]
    few = f"; fewer than {FEW:,}, on which it tends to learn the noise" if len(judged.targets) < FEW else ""
    return [f"probabilities calibrated on {on}: isotonic, which may change which class is first{few}"]


def _familiar(gathered: Gathered, seed: int) -> Familiar | None:
    part = gathered.split("train")
    if not len(part.manifest) and "test" in gathered.manifest.split_sizes():
        part = gathered.split("val")  # a trained network's features are known of other images only
    return learn_familiar(part.table.features, groups=groups_of(part.manifest), blocks=gathered.blocks, seed=seed)
