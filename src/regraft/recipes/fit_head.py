"""A head on stored features: fitted, and measured on the parts that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft import heads
from regraft.evaluation.metrics import evaluate as measure
from regraft.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from regraft.heads.head import Fitted
    from regraft.recipes.catalogue import Strategy
    from regraft.recipes.gather import Gathered
    from regraft.recipes.listen import Clock, Listener


@dataclass(frozen=True)
class Outcome:
    """What training gave: the head, and predictions and evaluations by split, the headline's first."""

    fitted: Fitted
    predictions: dict[str, Predictions]
    evaluations: dict[str, Any]
    notes: tuple[str, ...]


def fit_head(gathered: Gathered, plan: Strategy, seed: int, clock: Clock, listener: Listener) -> Fitted:
    """Fit the strategy's head on the training part's features."""
    part = gathered.split("train")
    clock.import_now(*plan.imports)
    with clock.phase("fit"):
        groups = None
        if any(item.group is not None for item in part.manifest.items):
            # An image without a group is a group of its own.
            groups = np.array([i.group if i.group is not None else f"\0{i.key}" for i in part.manifest.items])
        fitted = heads.fit(
            plan.head,
            part.table.features,
            np.array(part.manifest.targets(), np.int64),
            len(gathered.manifest.classes),
            groups=groups,
            seed=seed,
            classes=gathered.manifest.classes,
        )
    for note in fitted.notes:
        listener.warn(note)
    return fitted


def measure_head(
    gathered: Gathered, fitted: Fitted, seed: int, clock: Clock, listener: Listener, notes: tuple[str, ...]
) -> Outcome:
    """Predictions and numbers on test, where there is one, and val; the first of them is told."""
    predictions, evaluations = {}, {}
    with clock.phase("evaluate"):
        for split in ("test", "val"):
            rest = gathered.split(split)
            if len(rest.manifest):
                predictions[split] = predict_table(rest, fitted.head.logits(rest.table.features))
                evaluations[split] = measure(predictions[split], split=split, seed=seed)
    headline = next(iter(evaluations.values()))
    listener.say(headline.sentence())
    if headline.caution:
        listener.say(headline.caution)
    return Outcome(fitted, predictions, evaluations, (*notes, *fitted.notes))


def predict_table(part: Gathered, logits: np.ndarray) -> Predictions:
    """Logits of a part, beside what is true of its images."""
    return Predictions(
        tuple(item.path for item in part.manifest.items),
        part.table.keys,
        part.manifest.classes,
        np.array(part.manifest.targets(), np.int64),
        logits,
    )
