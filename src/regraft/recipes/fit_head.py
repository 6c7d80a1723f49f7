"""A head on stored features: fitted, and measured on the parts that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft import heads
from regraft.evaluation.metrics import evaluate as measure
from regraft.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.data.manifest import Manifest
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
        fitted = heads.fit(
            plan.head,
            part.table.features,
            np.array(part.manifest.targets(), np.int64),
            len(gathered.manifest.classes),
            groups=groups_of(part.manifest),
            seed=seed,
            classes=gathered.manifest.classes,
            blocks=gathered.blocks,
        )
    for note in fitted.notes:
        listener.warn(note)
    return fitted


def groups_of(manifest: Manifest) -> NDArray[Any] | None:
    """The group of each image (N,), one of its own for an image without; None where no image has one."""
    if all(item.group is None for item in manifest.items):
        return None
    return np.array([item.group if item.group is not None else f"\0{item.key}" for item in manifest.items])


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
