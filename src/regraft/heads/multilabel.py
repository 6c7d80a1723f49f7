"""One logistic regression a label on frozen features, all solved together, missing labels left out."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.errors import DataError
from regraft.heads.binary import Binary, principal
from regraft.heads.folds import make_folds, stratified_subset
from regraft.heads.head import Fitted
from regraft.heads.linear_probe import ASSUMED_STRENGTH
from regraft.heads.linear_probe import STRENGTHS as _OF_CLASSES
from regraft.heads.outputs import output_rows
from regraft.heads.rows import finite_features, in_chunks
from regraft.heads.scaling import Scaling, learn_scaling
from regraft.heads.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.folds import Folds
    from regraft.heads.outputs import OutputRows

# Below 1e-6 only labels that are told without a mistake still gain, and there the steps are many.
STRENGTHS = tuple(strength for strength in _OF_CLASSES if strength >= 1e-6)  # noqa: PLR2004
_PATIENCE = 2
_TRIAL_ROWS = 5000
_ROUGH, _EXACT = 1e-5, 1e-8  # nats above the least value of the objective
_FEW = 10  # images with or without a label, below which it shares its strength with others of the kind
_IN_FOLDS = 5


@dataclass(frozen=True)
class Multilabel:
    """log-odds = (features - centre) / scale @ weights + bias; each label by itself.

    Attributes:
        scaling: of the features.
        weights: (D, L) float64; zeros for a label that all training images have, or none.
        bias: (L,) float64.
    """

    name: ClassVar[str] = "multilabel"
    scaling: Scaling
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to log-odds (N, L); 1 / (1 + exp(-log-odds)) is a label's probability."""
        rows = finite_features(features, len(self.weights))
        return in_chunks(lambda part: self.scaling(part) @ self.weights + self.bias, rows, len(self.bias))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        return {**self.scaling.arrays(), "weights": self.weights, "bias": self.bias}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        return {}


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Multilabel:  # noqa: ARG001 - as for all heads
    """The head that gave these `arrays()` and `settings()`."""
    return Multilabel(Scaling(arrays["centre"], arrays["scale"]), arrays["weights"], arrays["bias"])


def fit(
    features: NDArray[np.float32],
    targets: NDArray[Any],
    n_outputs: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    strengths: Sequence[float] = STRENGTHS,
) -> Fitted:
    """Fit mean binary cross-entropy + strength / 2 * |weights|^2 for each label, at its own best strength.

    The mean runs over the images of which the label is known. Strengths are those of least cross-validated
    log loss; labels that fewer than ten images have, or lack, choose one together. A label that all images
    have, or none, gets constant log-odds. More than 5,000 rows: strengths are chosen on a part, the fit uses
    all.

    Args:
        features: (N, D).
        targets: (N, L) of 0 and 1; -1 or NaN where a label is not known.
        n_outputs: L.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        names: L label names, for the notes.
        blocks: widths of several backbones' features lying side by side.
        strengths: what to choose from, descending; one alone is taken as it is.

    Raises:
        DataError: see `output_rows`; or targets that are something else.
    """
    signs = _signs(targets)
    rows = output_rows(features, signs, n_outputs, groups, names, blocks)
    counts = np.stack([(rows.targets == value).sum(axis=0) for value in (1, -1)])
    notes = _notes(rows, counts)
    history: list[dict[str, Any]] = []
    with one_thread():
        if len(strengths) == 1:
            chosen: dict[str, Any] = {"strengths": [float(strengths[0])] * n_outputs, "by": "given"}
        else:
            chosen, history, more = _choose(rows, strengths, seed)
            notes += more
        head = _fit_all(rows, np.array(chosen["strengths"]), counts)
    return Fitted(head, history, chosen, notes)


def _signs(targets: NDArray[Any]) -> NDArray[np.float64]:
    """Targets (N, L) as 1 for yes, -1 for no and 0 for not known.

    Raises:
        DataError: another value.
    """
    exact = np.nan_to_num(np.asarray(targets, np.float64), nan=-1.0)
    others = np.setdiff1d(exact, (0.0, 1.0, -1.0))
    if len(others):
        raise DataError(f"targets of labels hold {others[0]:g}; 0, 1, and -1 where a label is not known, are expected.")
    return np.select([exact == 1, exact == 0], [1.0, -1.0], 0.0)


def _notes(rows: OutputRows, counts: NDArray[np.int64]) -> list[str]:
    notes = []
    for count, what in zip(counts, ("has the label", "lacks the label"), strict=True):
        names = [repr(name) for name, n in zip(rows.names, count, strict=True) if n == 0]
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004
            notes.append(f"no training image {what} {', '.join(names[:5])}{more}: its answer is always the same")
    return notes


def _choose(
    rows: OutputRows, strengths: Sequence[float], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """The strength of each label, the losses that led there, and notes."""
    strata = _strata(rows)
    notes = []
    part = rows
    if len(rows) > _TRIAL_ROWS:
        order = stratified_subset(strata, _TRIAL_ROWS, seed=seed)
        part, strata = rows.take(order), strata[order]
        notes.append(f"strengths were chosen on {len(part):,} of the {len(rows):,} training images")
    alone = len(np.unique(part.units)) == len(part)
    folds = make_folds(strata, groups=None if alone else part.units, seed=seed)
    best = np.full(len(rows.names), ASSUMED_STRENGTH)
    history: list[dict[str, Any]] = []
    pools = _pools(part)
    losses = np.full((len(strengths), pools.max(initial=0) + 1), np.nan)
    if folds.n_folds:
        losses = _compare(part, folds, pools, strengths)
        scored: NDArray[np.bool_] = np.any(np.isfinite(losses), axis=0)
        lowest = np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=0)
        best = np.where(scored[pools], np.array(strengths)[lowest][pools], ASSUMED_STRENGTH)
        tried = losses[np.isfinite(losses).any(axis=1)]
        history = [
            {"strength": float(s), "labels": int(np.isfinite(row).sum()), "log_loss": float(np.nanmean(row))}
            for s, row in zip(strengths, tried, strict=False)
        ]
    else:
        notes.append("strengths were assumed, not chosen: too few training images to hold any out")
    by = "least cross-validated log loss" if folds.n_folds else "assumed: nothing could be held out"
    return {"strengths": best.tolist(), "by": by, "folds": folds.n_folds, "images": len(part)}, history, notes


def _strata(rows: OutputRows) -> NDArray[np.int64]:
    """For each image its rarest label that is not too rare to be dealt out; 0 without one."""
    present = rows.targets > 0
    counts = present.sum(axis=0)
    strata = np.zeros(len(rows), np.int64)
    for label in np.argsort(-counts, kind="stable"):  # the rarest comes last and wins
        if counts[label] >= _FEW:
            strata[present[:, label]] = label + 1
    for stratum in np.unique(strata):
        if len(np.unique(rows.units[strata == stratum])) < _IN_FOLDS:
            strata[strata == stratum] = 0
    # Where only one is left, any two will do to deal the images out.
    return strata if len(np.unique(strata)) > 1 else np.arange(len(rows)) % 2


def _pools(rows: OutputRows) -> NDArray[np.int64]:
    """Which labels choose their strength together: (L,) numbers; 0 for all labels with few images."""
    few = np.minimum((rows.targets > 0).sum(axis=0), (rows.targets < 0).sum(axis=0)) < _FEW
    return np.where(few, 0, np.cumsum(~few))


def _compare(
    rows: OutputRows, folds: Folds, pools: NDArray[np.int64], strengths: Sequence[float]
) -> NDArray[np.float64]:
    """Held-out log loss (strengths, pools); NaN where it was not tried or nothing could be scored."""
    scores = np.zeros(rows.targets.shape)
    losses = np.full((len(strengths), pools.max(initial=0) + 1), np.nan)
    active = np.ones(len(pools), bool)
    with ThreadPoolExecutor(min(folds.n_folds, os.cpu_count() or 1)) as pool:
        walks = list(pool.map(lambda fold: _Walk.start(rows, *fold), folds))
        counted = np.zeros(rows.targets.shape, bool)
        for walk in walks:
            counted[walk.held_out] = (rows.targets[walk.held_out] != 0) & walk.learnt
        for step, strength in enumerate(strengths):
            labels = np.flatnonzero(active)
            parts = pool.map(lambda w, s=strength, n=labels: w.scores(s, n), walks)
            for walk, part in zip(walks, parts, strict=True):
                scores[np.ix_(walk.held_out, labels)] = part
            each = np.logaddexp(0, -rows.targets[:, labels] * scores[:, labels]) * counted[:, labels]
            for number in np.unique(pools[labels]):
                own = pools[labels] == number
                seen = counted[:, labels[own]].sum()
                losses[step, number] = each[:, own].sum() / seen if seen else np.nan
            least = np.where(np.isfinite(losses[: step + 1]), losses[: step + 1], np.inf).argmin(axis=0)
            going = np.isfinite(losses[step]) & (step - least < _PATIENCE)
            active &= going[pools]
            if not active.any():
                break
    return losses


@dataclass
class _Walk:
    """One fold on its way down the strengths."""

    problem: Binary
    features: NDArray[np.floating[Any]]  # held out, scaled, in the basis of the problem
    held_out: NDArray[np.int64]
    learnt: NDArray[np.bool_]  # (L,) labels that both some and not all of the fold's images have

    @classmethod
    def start(cls, rows: OutputRows, learn: NDArray[np.int64], held_out: NDArray[np.int64]) -> _Walk:
        known = rows.take(learn)
        scaling = learn_scaling(known.features, known.blocks)
        turned, basis = principal(scaling.single(known.features))
        features = scaling.single(rows.features[held_out]) @ basis
        problem = Binary(turned.astype(np.float32), known.targets, _ROUGH)
        return cls(problem, features, held_out, problem.learnable)

    def scores(self, strength: float, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        weights, bias = self.problem.solve(np.full(len(labels), strength), labels)
        scores: NDArray[np.float64] = self.features @ weights + bias
        return scores


def _fit_all(rows: OutputRows, strengths: NDArray[np.float64], counts: NDArray[np.int64]) -> Multilabel:
    """The fit on all rows; for very many in float32 and less tight, as for the linear probe."""
    scaling = learn_scaling(rows.features, rows.blocks)
    turned, basis = principal(scaling.single(rows.features))
    many = len(rows) > _TRIAL_ROWS
    precision, accuracy = (np.float32, _ROUGH / 10) if many else (np.float64, _EXACT)
    problem = Binary(turned.astype(precision), rows.targets, accuracy)
    weights, bias = problem.solve(strengths, np.arange(len(strengths)))
    bias = np.where(problem.learnable, bias, np.log((counts[0] + 0.5) / (counts[1] + 0.5)))
    return Multilabel(scaling, basis @ weights, bias)
