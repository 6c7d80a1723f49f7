"""Nearest neighbours by cosine similarity on frozen features, calibrated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regraft.heads.head import Fitted
from regraft.heads.prepared import prepare
from regraft.heads.rows import finite_features, in_chunks, over_all_classes
from regraft.heads.selection import assumed, best, held_out_scores, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from regraft.heads.prepared import Prepared
    from regraft.heads.rows import TrainingRows

NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
_SHARPNESS = 0.07  # of similarity-weighted votes: Wu et al., CVPR 2018, arXiv:1805.01978
_TRIAL_ROWS = 5000
_SIMILARITIES = 2**24  # in memory at once: 64 MB


@dataclass(frozen=True)
class NearestNeighbours:
    """logits = log(votes of the k most similar training images + 1 / P) / temperature.

    One vote spread evenly over the classes keeps the logarithm finite and changes no order.

    Attributes:
        directions: (N, D) float32, training features of length 1 (or 0).
        labels: (N,) position of each one's class in `present`.
        neighbours: k.
        weighted: a vote counts exp(similarity / 0.07), votes rescaled to sum to k; else each counts 1.
        temperature: from held-out scores.
        present: (P,) indices of the classes that were seen.
        n_classes: K.
        blocks: widths of the features of several backbones; each has an equal say in the similarity.
    """

    name: ClassVar[str] = "knn"
    directions: NDArray[np.float32]
    labels: NDArray[np.int64]
    neighbours: int
    weighted: bool
    temperature: float
    present: NDArray[np.int64]
    n_classes: int
    blocks: tuple[int, ...] = ()

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features (N, D) to logits (N, K)."""
        rows = finite_features(features, self.directions.shape[1])
        n_seen = len(self.present)

        def score(part: NDArray[np.float32]) -> NDArray[np.float64]:
            similar, labels = _nearest(directions(part, self.blocks), self.directions, self.labels, self.neighbours)
            return _votes(similar, labels, n_seen, weighted=self.weighted)

        chunk = max(1, _SIMILARITIES // len(self.labels))
        scores = in_chunks(score, rows, n_seen, chunk) / self.temperature
        return over_all_classes(scores, self.present, self.n_classes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric."""
        return {"directions": self.directions, "labels": self.labels, "present": self.present}

    def settings(self) -> dict[str, Any]:
        """Everything else."""
        names = ("neighbours", "weighted", "temperature", "n_classes")
        own = {name: getattr(self, name) for name in names}
        return {**own, "blocks": list(self.blocks)} if self.blocks else own


def from_arrays(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> NearestNeighbours:
    """The head that gave these `arrays()` and `settings()`."""
    values: dict[str, Any] = {**arrays, **settings, "blocks": tuple(settings.get("blocks", ()))}
    return NearestNeighbours(**values)


def fit(
    features: NDArray[np.float32],
    targets: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    blocks: Sequence[int] = (),
    prepared: Prepared | None = None,
    neighbours: Sequence[int] = NEIGHBOURS,
    weighted: bool = True,
) -> Fitted:
    """Keep the training features; k of least calibrated cross-validated log loss.

    Args:
        features: (N, D).
        targets: (N,) class indices.
        n_classes: K; classes without an image are never predicted.
        groups: (N,) images of one group are never on both sides of a fold.
        seed: of the folds.
        classes: K class names, for the notes.
        blocks: widths of several backbones' features side by side.
        prepared: the same rows, already prepared.
        neighbours: values of k to choose from; those above the images that a fold learns from count as
            that many.
        weighted: similarity-weighted votes; on all our sets and for all k they lost less than plain ones.

    Raises:
        DataError: see `training_rows`.
    """
    ready = prepared or prepare(features, targets, n_classes, groups=groups, seed=seed, classes=classes, blocks=blocks)
    rows, trial = ready.rows, ready.trial(_TRIAL_ROWS)
    most = min((len(learn) for learn, _ in trial.folds), default=len(rows))
    sizes = sorted({min(k, most) for k in neighbours})
    history: list[dict[str, Any]] = []
    chosen = assumed({"neighbours": sizes[0]})
    if trial.possible:
        aimed = replace(trial, rows=replace(trial.rows, features=directions(trial.rows.features, rows.blocks)))

        def score(learn: TrainingRows, held_out: NDArray[np.float32]) -> list[NDArray[np.float64]]:
            similar, labels = _nearest(held_out, learn.features, learn.targets, sizes[-1])
            seen = len(rows.present)
            return [_votes(similar[:, :k], labels[:, :k], seen, weighted=weighted) for k in sizes]

        scores = held_out_scores(aimed, score)
        history = [outcome(trial, {"neighbours": k}, part) for k, part in zip(sizes, scores, strict=True)]
        chosen = best(trial, history)
    head = NearestNeighbours(
        directions=directions(rows.features, rows.blocks),
        labels=rows.targets,
        neighbours=chosen["neighbours"],
        weighted=weighted,
        temperature=chosen["temperature"],
        present=rows.present,
        n_classes=rows.n_classes,
        blocks=rows.blocks,
    )
    return Fitted(head, history, chosen, list(trial.notes))


def directions(features: NDArray[np.float32], blocks: Sequence[int] = ()) -> NDArray[np.float32]:
    """Features (N, D) divided by their length; rows of zeros stay zeros.

    With `blocks`, each block is divided by its own length and by the root of their number: the product of two
    directions is the mean of the blocks' cosines.
    """
    if len(blocks) > 1:
        parts = np.split(features, np.cumsum(blocks[:-1]), axis=1)
        return np.hstack([directions(part) for part in parts]) / np.float32(np.sqrt(len(blocks)))
    largest = np.abs(features).max(axis=1, keepdims=True)
    within = features / np.where(largest > 0, largest, 1)  # so that squares neither overflow nor vanish
    length = np.sqrt(np.square(within, dtype=np.float64).sum(axis=1, keepdims=True))
    result: NDArray[np.float32] = (within / np.where(length > 0, length, 1)).astype(np.float32)
    return result


def _nearest(
    queries: NDArray[np.float32], known: NDArray[np.float32], labels: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Similarity and label, (M, k) each, of the k most similar known rows, most similar first."""
    similar = queries @ known.T
    k = min(k, len(known))
    if k < len(known):
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(similar, nearest, axis=1)
    else:
        nearest, values = np.broadcast_to(np.arange(k), similar.shape), similar
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), labels[np.take_along_axis(nearest, order, axis=1)]


def _votes(
    similar: NDArray[np.float32], labels: NDArray[np.int64], n_seen: int, *, weighted: bool
) -> NDArray[np.float64]:
    """Logarithm of the votes (M, P) for each class, a vote in all spread evenly over the classes added."""
    votes = np.ones(similar.shape)
    if weighted:
        votes = np.exp((similar - similar[:, :1]).astype(np.float64) / _SHARPNESS)
        votes *= similar.shape[1] / votes.sum(axis=1, keepdims=True)
    size = len(labels) * n_seen
    cells = np.arange(len(labels))[:, None] * n_seen + labels
    # The spread vote is summed first: the order of a sum shows in its last digit.
    where = np.concatenate([np.arange(size), cells.ravel()])
    totals = np.bincount(where, np.concatenate([np.full(size, 1 / n_seen), votes.ravel()]), size)
    result: NDArray[np.float64] = np.log(totals.reshape(-1, n_seen))
    return result
